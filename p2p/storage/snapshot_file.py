"""A snapshot as a file: written in slices, received in pieces, checked to the last bit.

The file is a row of frames (consensus/frames.py) numbered from 0:
meta "M": msgpack [version, snapshot meta]; chunks "C": the state's bytes, in order;
end "E": msgpack [number of chunks, CRC32C of all their bytes].
What travels to another peer is this very file.
"""

from collections.abc import Iterator
from typing import Protocol

import msgpack

from consensus.changes import SnapshotMeta
from consensus.frames import HEADER_BYTES, crc32c, encode_frame, header_at, payload_at
from consensus.wire import MalformedMessage, as_list
from p2p.errors import P2PError
from p2p.storage.disk import Disk, Unreadable

META, CHUNK, END = b"M", b"C", b"E"
VERSION = 1
CHUNK_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 18


class SnapshotDamaged(P2PError):
    """These bytes are not a whole, sound snapshot; ask for it again."""


class SnapshotCheck:
    """Reads a snapshot's bytes as they come.

    meta: None until it was read; sound_bytes: length of the whole frames so far; is_whole: nothing
    may follow.
    """

    def __init__(self) -> None:
        self.meta: SnapshotMeta | None = None
        self.sound_bytes = 0
        self.is_whole = False
        self._rest = b""
        self._number = 0
        self._checksum = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The chunks that are complete now. Raises SnapshotDamaged."""
        data, offset, chunks = self._rest + data, 0, list[bytes]()
        self._rest = b""
        while offset < len(data):
            if self.is_whole:
                raise SnapshotDamaged("the snapshot goes on after its end")
            if len(data) - offset < HEADER_BYTES:
                break
            header = header_at(data, offset)
            if header is None or header.number != self._number or header.length > CHUNK_BYTES_MAX:
                raise SnapshotDamaged(f"frame {self._number} of the snapshot is damaged")
            if len(data) - offset < HEADER_BYTES + header.length:
                break
            payload = payload_at(data, offset, header)
            if payload is None:
                raise SnapshotDamaged(f"frame {self._number} of the snapshot is damaged")
            chunks += self._take(header.kind, payload)
            offset += HEADER_BYTES + header.length
            self.sound_bytes += HEADER_BYTES + header.length
            self._number += 1
        self._rest = data[offset:]
        return chunks

    def forget_rest(self) -> None:
        """Go on after the sound frames, as if the incomplete one had never come."""
        self._rest = b""

    def _take(self, kind: bytes, payload: bytes) -> tuple[bytes, ...]:
        try:
            if self._number == 0 and kind == META:
                version, meta = as_list(msgpack.unpackb(payload), "snapshot file", 2)
                if version != VERSION:
                    raise SnapshotDamaged(f"the snapshot has the unknown format {version!r}")
                self.meta = SnapshotMeta.from_wire(meta)
                return ()
            if self._number and kind == CHUNK:
                self._checksum = crc32c(payload, self._checksum)
                return (payload,)
            if self._number and kind == END:
                count, checksum = as_list(msgpack.unpackb(payload), "snapshot's end", 2)
                if (count, checksum) == (self._number - 1, self._checksum):
                    self.is_whole = True
                    return ()
        except (MalformedMessage, ValueError, msgpack.UnpackException) as error:
            raise SnapshotDamaged(f"frame {self._number} of the snapshot: {error}") from None
        raise SnapshotDamaged(f"frame {self._number} of the snapshot is out of place")


def read_chunks(disk: Disk, name: str, check: SnapshotCheck) -> Iterator[bytes]:
    """The state's bytes, chunk by chunk. Raises SnapshotDamaged, at the end at the latest."""
    offset = 0
    while data := disk.read(name, offset, READ_BYTES):
        offset += len(data)
        yield from check.feed(data)
    if not check.is_whole:
        raise SnapshotDamaged(f"{name} ends too early")


class Finished(Protocol):
    """What a log store does with a snapshot that is durable under its temporary name."""

    def __call__(self, meta: SnapshotMeta) -> None: ...


class SnapshotFile:
    """A snapshot of our own while it is written. Nothing of it counts before finish()."""

    def __init__(self, disk: Disk, name: str, meta: SnapshotMeta, finished: Finished) -> None:
        self.meta = meta
        self._disk, self._name, self._finished = disk, name, finished
        self._chunks = 0
        self._checksum = 0
        disk.remove(name)
        header = msgpack.packb([VERSION, meta.to_wire()])
        disk.append_unsynced(name, encode_frame(META, 0, header))

    def write(self, chunk: bytes) -> None:
        """Up to CHUNK_BYTES_MAX bytes of the state; cheap, nothing is synced yet."""
        if len(chunk) > CHUNK_BYTES_MAX:
            raise ValueError(f"a chunk of {len(chunk)} bytes is too large for a snapshot")
        self._chunks += 1
        self._checksum = crc32c(chunk, self._checksum)
        self._disk.append_unsynced(self._name, encode_frame(CHUNK, self._chunks, chunk))

    def sync_some(self) -> None:
        """Now and then between writes, so that no sync has much to do and delays the log's."""
        self._disk.sync(self._name)

    def finish(self) -> None:
        """Durable, and the current snapshot from now on."""
        end = msgpack.packb([self._chunks, self._checksum])
        self._disk.append(self._name, encode_frame(END, self._chunks + 1, end))
        self._finished(self.meta)

    def discard(self) -> None:
        """Give it up."""
        self._disk.remove(self._name)


class IncomingSnapshot:
    """Another peer's snapshot while it arrives; goes on where it stopped, also after a restart."""

    def __init__(self, disk: Disk, name: str, meta: SnapshotMeta, total_bytes: int) -> None:
        self.meta, self.total_bytes = meta, total_bytes
        self._disk, self._name = disk, name
        self._check = SnapshotCheck()
        self._given = SnapshotCheck()
        self._given_bytes = 0
        self._resume()

    @property
    def offset(self) -> int:
        """How many bytes are there: what write() expects next."""
        return self._bytes

    def write(self, offset: int, data: bytes) -> None:
        """Raises SnapshotDamaged, and starts over, when these bytes cannot belong to it."""
        if offset != self._bytes or offset + len(data) > self.total_bytes:
            raise SnapshotDamaged(f"bytes at {offset} came where those at {self._bytes} are due")
        try:
            self._check.feed(data)
            if self._check.meta not in (None, self.meta):
                raise SnapshotDamaged(f"this is a snapshot of {self._check.meta}")
        except SnapshotDamaged:
            self._start_over()
            raise
        self._disk.append_unsynced(self._name, data)
        self._bytes += len(data)

    def sync_some(self) -> None:
        """As of SnapshotFile."""
        if self._bytes:
            self._disk.sync(self._name)

    def read_on(self) -> list[bytes]:
        """The state's next chunks, of READ_BYTES of the file, in order from the beginning on.

        Empty when all that arrived was given. So a state can be read while it arrives.
        """
        count = min(READ_BYTES, self._check.sound_bytes - self._given_bytes)
        if not count:
            return []
        data = self._disk.read(self._name, self._given_bytes, count) or b""
        self._given_bytes += len(data)
        return self._given.feed(data)

    def complete(self) -> None:
        """Durable and sound. Raises SnapshotDamaged, and starts over, when it is not."""
        if not (self._check.is_whole and self._bytes == self.total_bytes):
            self._start_over()
            raise SnapshotDamaged("the snapshot that arrived ends too early; it is fetched again")
        self._disk.sync(self._name)

    def discard(self) -> None:
        """Give it up."""
        self._disk.remove(self._name)

    def _resume(self) -> None:
        """Keep the sound frames of what an earlier process received of the same snapshot."""
        self._bytes = 0
        size = self._disk.size(self._name)
        if size is None:
            return
        try:
            for _ in read_chunks(self._disk, self._name, self._check):
                pass
        except (SnapshotDamaged, Unreadable):
            pass
        if self._check.meta != self.meta or size > self.total_bytes:
            self._start_over()
            return
        self._bytes = self._check.sound_bytes
        if self._bytes < size:
            self._disk.truncate(self._name, self._bytes)
        self._check.forget_rest()

    def _start_over(self) -> None:
        self._disk.remove(self._name)
        self._check = SnapshotCheck()
        self._bytes = 0
