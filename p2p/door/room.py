"""How much the door takes on at a time: requests, and the bytes of their bodies. Pure."""

from types import TracebackType

from p2p.door.told import Problem

REQUESTS_MAX = 256
BODY_BYTES_MAX = 4 * 1024 * 1024
BYTES_MAX = 64 * 1024 * 1024  # of all bodies, as much as a peer lets wait
RETRY_S = 1.0


class Room:
    def __init__(self, requests: int = REQUESTS_MAX, bytes_: int = BYTES_MAX) -> None:
        self.requests, self.bytes = requests, bytes_  # that are left

    def seat(self) -> "Seat":
        """For one request, to be used as a context. Raises Problem."""
        if self.requests <= 0:
            sentence = f"this door answers as many requests as it can: retry after {RETRY_S:g} s"
            raise Problem(429, sentence, "busy", RETRY_S)
        self.requests -= 1
        return Seat(self)


class Seat:
    def __init__(self, room: Room) -> None:
        self._room, self._taken = room, 0

    def __enter__(self) -> "Seat":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.requests += 1
        self._room.bytes += self._taken

    def take(self, count: int) -> None:
        """So many bytes more. Raises Problem."""
        if self._taken + count > BODY_BYTES_MAX:
            raise Problem(400, f"the body is larger than {BODY_BYTES_MAX} bytes", "too_large")
        if count > self._room.bytes:
            sentence = f"too many large prompts at a time: retry after {RETRY_S:g} s"
            raise Problem(429, sentence, "busy", RETRY_S)
        self._taken += count
        self._room.bytes -= count
