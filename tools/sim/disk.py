"""An in-memory disk that forgets: a power cut loses or tears what was written but not synced."""

import random

SECTOR_BYTES = 512


class Disk:
    """One append-only file: `durable` survives anything, `pending` the death of the process."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending = bytearray()

    @property
    def length(self) -> int:
        return len(self.durable) + len(self.pending)

    def write(self, frame: bytes) -> None:
        self.pending += frame

    def sync(self) -> None:
        self.durable += self.pending
        self.pending.clear()

    def truncate(self, length: int) -> None:
        """Recovery cuts a torn tail off, before anything else is written."""
        del self.pending[max(0, length - len(self.durable)) :]
        del self.durable[length:]

    def read(self) -> bytes:
        """What a new process sees: also what no sync has made durable yet."""
        return bytes(self.durable + self.pending)

    def power_cut(self, rng: random.Random) -> str:
        """Keep none, all, or a torn part of what was not synced; zeros in missing sectors."""
        size = len(self.pending)
        fate = rng.choice(("lost", "torn", "zeros", "kept")) if size else "clean"
        keep = {"lost": 0, "kept": size, "clean": 0}.get(fate, rng.randrange(size) if size else 0)
        tail = bytearray(self.pending[:keep])
        if fate == "zeros":
            gap = -(len(self.durable) + keep) % SECTOR_BYTES  # a sector is written whole or not
            tail = bytearray(self.pending[: min(size, keep + gap)]).ljust(size, b"\0")
        self.durable += tail
        self.pending.clear()
        return fate
