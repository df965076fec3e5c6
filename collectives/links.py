"""One generation's links: chunks out to other ranks, frames in from them, nothing left behind.

Memory that was handed to a socket without copying stays readable by libzmq's I/O thread until it
has been written out. `settle` waits for that on success, `end` on failure (after closing the
sockets, which drops what has not gone out). So once an operation has returned or raised, its caller
may change the arrays, and no other rank can be sent a half-changed chunk.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import zmq

from collectives.errors import Aborted, OutOfStep
from collectives.frames import Header, Stream

if TYPE_CHECKING:
    from collectives.plane import DataPlane, Endpoints

ZERO_COPY_BYTES_MIN = 64 << 10  # below, copying is cheaper than being told when the bytes are free
EARLY_BYTES_MAX = 1 << 30  # data of operations of this generation that we have not begun yet
FRAME_BYTES = 256  # what keeping a frame costs besides its payload, roughly
LET_GO_SECONDS_MAX = 10.0

Arrival = tuple[Header, zmq.Frame]
Payload = bytes | memoryview | zmq.Frame


class Links:
    """Sends to and takes from the other members. After `end` everything raises Aborted."""

    def __init__(
        self, plane: "DataPlane", generation: int, rank: int, members: Sequence["Endpoints"]
    ) -> None:
        self.rank, self.size, self.generation = rank, len(members), generation
        self._plane = plane
        self._members = tuple(members)
        self._over = ""
        self._push: dict[int, zmq.Socket[bytes]] = {}
        self._handshakes: dict[int, tuple[zmq.Socket[bytes], int]] = {}  # monitor, how many so far
        self._early: defaultdict[tuple[Stream, int], deque[Arrival]] = defaultdict(deque)
        self._early_bytes = 0
        self._trackers: list[zmq.MessageTracker] = []

    def check(self) -> None:
        """Raises Aborted when this generation is over, for whatever reason."""
        if self._over:
            raise Aborted(self._over)
        self._plane.check(self.generation)

    def send_nowait(self, to: int, header: Header, payload: Payload) -> bool:
        """Hand a chunk to the link; False when the link is full. Copies only what is small."""
        self.check()
        push = self._push.get(to)
        if push is None:
            push = self._connect(to)
        try:
            push.send(header.pack(), zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        # A link that took the first part takes the whole message.
        if isinstance(payload, zmq.Frame):
            push.send(payload, zmq.NOBLOCK, copy=False)
        elif len(payload) < ZERO_COPY_BYTES_MIN:
            push.send(payload, zmq.NOBLOCK)
        else:
            tracker = push.send(payload, zmq.NOBLOCK, copy=False, track=True)
            assert tracker is not None
            self._trackers.append(tracker)
        return True

    def send(self, to: int, header: Header, payload: Payload) -> None:
        """The same, but waits for room; what arrives meanwhile is kept for its operation."""
        while not self.send_nowait(to, header, payload):
            if not self._plane.pump():
                self._wait(self._push[to])

    def take(
        self, stream: Stream, sender: int, sequence: int, fingerprint: int, full: int | None = None
    ) -> Arrival | None:
        """Wait for the next frame of this operation.

        With `full`, a rank whose link had no room: also returns, with None, when it has room again.
        Raises OutOfStep when the frame belongs to another operation than expected.
        """
        early = self._early[stream, sender]
        blocked = self._push[full] if full is not None else None
        while not early:
            self.check()
            if self._plane.pump():
                continue
            self._wait(blocked)
            if blocked is not None and blocked.poll(0, zmq.POLLOUT):
                return None
        self.check()
        arrival = early.popleft()
        self._early_bytes -= len(arrival[1]) + FRAME_BYTES
        header = arrival[0]
        if (header.sequence, header.fingerprint) != (sequence, fingerprint):
            raise OutOfStep(f"rank {sender} is not in the same operation as rank {self.rank}")
        return arrival

    def deliver(self, arrival: Arrival) -> bool:
        """Keep a frame of this generation for its operation; False when no member sends such."""
        header, payload = arrival
        left = (self.rank - 1) % self.size
        if header.sender >= self.size or header.sender == self.rank:
            return False
        if header.stream is Stream.COLLECTIVE and header.sender != left:
            return False
        self._early[header.stream, header.sender].append(arrival)
        self._early_bytes += len(payload) + FRAME_BYTES
        if self._early_bytes > EARLY_BYTES_MAX:
            raise OutOfStep(f"rank {header.sender} sends more than rank {self.rank} can keep")
        return True

    def settle(self) -> None:
        """Wait until nobody reads the memory that was sent. Raises Aborted.

        Keeps taking what arrives: the others may be waiting here too, with full links between us.
        """
        # A link sends in order, so the last is nearly always the only one to wait for.
        for tracker in reversed(self._trackers):
            while not _released(tracker, 0.0 if self._plane.pump() else 0.002):
                self.check()
        self._trackers.clear()
        self._check_unbroken()

    def end(self, reason: str) -> None:
        """Close the connections, drop what has not gone out, let go of all memory. Idempotent."""
        self._over = self._over or reason
        for push in self._push.values():
            push.disable_monitor()
            push.close(linger=0)
        self._push.clear()
        for monitor, _ in self._handshakes.values():
            monitor.close(linger=0)
        self._handshakes.clear()
        self._early.clear()
        for tracker in reversed(self._trackers):
            if not _released(tracker, LET_GO_SECONDS_MAX):
                raise RuntimeError("a closed connection still holds the memory it was sending")
        self._trackers.clear()

    def _connect(self, to: int) -> "zmq.Socket[bytes]":
        push, monitor = self._plane.connect(self._members[to])
        self._push[to] = push
        if monitor is not None:
            self._handshakes[to] = (monitor, 0)
        return push

    def _wait(self, blocked: "zmq.Socket[bytes] | None") -> None:
        """Sleep until something happens. Raises OutOfStep when a link came back after a break."""
        self._plane.wait(blocked, [monitor for monitor, _ in self._handshakes.values()])
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        """Raises OutOfStep when a connection is not the first one to its member.

        libzmq connects again by itself, but what was on the way is lost, and nobody would know:
        the receiver would wait for ever. A member that is gone for good is not our business here:
        whoever watches the members aborts the generation.
        """
        for to, (monitor, count) in self._handshakes.items():
            while monitor.poll(0):
                monitor.recv_multipart()
                count += 1
            self._handshakes[to] = (monitor, count)
            if count > 1:
                raise OutOfStep(f"the connection to rank {to} broke: what was on the way is lost")


def _released(tracker: zmq.MessageTracker, seconds: float) -> bool:
    try:
        tracker.wait(seconds)
    except zmq.NotDone:
        return False
    return True
