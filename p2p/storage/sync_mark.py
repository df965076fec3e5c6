"""raft.mark: which frame of the log, and which snapshot, are known to have been synced.

Written after each sync and never synced itself: it costs no disk time, and whatever it says was
durable before it said so. It is the evidence that tells a write cut short, above the mark, from
damage below it. Two slots in sectors of their own are written in turn, so that one is always whole.

Slot:   magic (4 bytes) | frame number (u64) | snapshot index (u64) | CRC32C (u32), big-endian.
"""

import struct

from consensus.frames import crc32c
from p2p.storage.disk import Disk

MARK_NAME = "raft.mark"
SLOT_BYTES = 512
_MAGIC = b"mrk1"
_SLOT = struct.Struct(">4sQQ")
_CHECKSUM = struct.Struct(">I")


class SyncMark:
    """`known`: whether there is a mark to rely on; else number and snapshot are 0."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        data = disk.read(MARK_NAME) or b""
        slots = [_decode(data[place * SLOT_BYTES :]) for place in range(2)]
        sound = [(slot, place) for place, slot in enumerate(slots) if slot is not None]
        self.known = bool(sound)
        (self.number, self.snapshot), self._place = max(sound, default=((0, 0), 0))

    def create(self) -> None:
        """Durably, before there is a log that would need it."""
        self._disk.replace(MARK_NAME, self._encode().ljust(SLOT_BYTES, b"\0") * 2)
        self.known = True

    def note(self, number: int, snapshot: int) -> None:
        """Both are synced; only then may anybody be told."""
        self.number, self.snapshot = number, snapshot
        self._place = 1 - self._place
        self._disk.overwrite(MARK_NAME, self._place * SLOT_BYTES, self._encode())

    def _encode(self) -> bytes:
        slot = _SLOT.pack(_MAGIC, self.number, self.snapshot)
        return slot + _CHECKSUM.pack(crc32c(slot))


def _decode(data: bytes) -> tuple[int, int] | None:
    slot = data[: _SLOT.size]
    if len(data) < _SLOT.size + _CHECKSUM.size:
        return None
    magic, number, snapshot = _SLOT.unpack(slot)
    sound = magic == _MAGIC and crc32c(slot) == _CHECKSUM.unpack_from(data, _SLOT.size)[0]
    return (number, snapshot) if sound else None
