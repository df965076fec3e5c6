"""The durable Raft log: write-ahead log and snapshot on disk, and the log in memory beside them."""

from collections.abc import Iterator, Sequence

from consensus import wal
from consensus.changes import SnapshotMeta
from consensus.messages import Entry, HardState
from consensus.storage import MemoryStorage
from consensus.wal import Position
from p2p.storage.disk import Disk
from p2p.storage.log_recovery import (
    SNAPSHOT_NEW,
    SNAPSHOT_PART,
    LogDamaged,
    Recovered,
    recover,
    set_aside,
    snapshot_name,
)
from p2p.storage.snapshot_file import IncomingSnapshot, SnapshotCheck, SnapshotFile, read_chunks

__all__ = ["LogDamaged", "LogStore", "set_aside"]

SEGMENT_BYTES = 8 * 1024 * 1024


class LogStore:
    """`storage` is what the core reads. Raises LogDamaged when promises cannot be read any more."""

    def __init__(self, disk: Disk, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        back = recover(disk)
        self._segments = back.segments
        self._active_bytes = self._reserved_bytes = back.active_bytes
        self._next_number = back.found.next_number
        self._mark = back.mark
        # As the frames on disk have it: the hard state, and the position of the last entry.
        self._written_state = back.found.hard_state
        self._written_last = back.found.last
        # What the next frame has to say besides its entries.
        self._unsaved: HardState | None = None
        self._base: Position | None = None
        self._measured = (0, 0)  # index and bytes of the snapshot that was measured last
        self.storage = self._load(back)

    @property
    def is_new(self) -> bool:
        return self._next_number == 1 and self.snapshot_meta.index == 0

    def save(self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool) -> None:
        """Make both durable as one step, before anything that depends on them is said.

        A commit index alone promises nothing (not `must_sync`): it waits for the next frame, so
        that all frames are synced ones, and a damaged one before the end is damage indeed. But that
        a snapshot was installed is said at once: without that frame, should the snapshot rot, an
        older and longer log would seem to be all that was ever promised.
        """
        if hard_state is not None:
            self.storage.set_hard_state(hard_state)
            self._unsaved = hard_state
        if not must_sync and self._base is None:
            return
        if not self._mark.known:
            self._mark.create()
        number, start = self._next_number, b""
        if not self._segments or self._active_bytes >= self._segment_bytes:
            start = wal.encode_start(number, self._written_state, self._written_last)
            self._segments.append((number, self._written_last[0]))
            self._active_bytes = self._reserved_bytes = 0
            number += 1
        data = start + wal.encode_batch(number, self._unsaved, entries, self._base)
        self._write(wal.segment_name(self._segments[-1][0]), data)
        self._mark.note(number, self.snapshot_meta.index)
        self._next_number = number + 1
        self._written_state = self._unsaved or self._written_state
        if entries:
            self._written_last = (entries[-1].index, entries[-1].term)
        elif self._base is not None:
            self._written_last = self._base
        self._unsaved = self._base = None
        self.storage.append(entries)

    def _write(self, segment: str, data: bytes) -> None:
        """Into space that was reserved before: a sync that has no new size to write is faster."""
        end = self._active_bytes + len(data)
        if end > self._reserved_bytes:
            self._reserved_bytes = self._disk.reserve(segment, end)
        self._disk.overwrite(segment, self._active_bytes, data)
        self._disk.sync(segment)
        self._active_bytes = end

    # -- snapshots -------------------------------------------------------------------------------

    @property
    def snapshot_meta(self) -> SnapshotMeta:
        """Of the current snapshot; index 0 when there is none."""
        return self.storage.snapshot()

    @property
    def log_bytes(self) -> int:
        """Of the log on disk, about: all segments but the last are counted as full."""
        return max(0, len(self._segments) - 1) * self._segment_bytes + self._active_bytes

    @property
    def snapshot_bytes(self) -> int:
        """Size of the current snapshot's file; 0 when there is none. Asked after every entry."""
        index = self.snapshot_meta.index
        if self._measured[0] != index:
            self._measured = index, self._disk.size(snapshot_name(index)) or 0
        return self._measured[1]

    def read_snapshot(self, offset: int, count: int) -> bytes:
        """The current snapshot's file, as it travels to another peer."""
        return self._disk.read(snapshot_name(self.snapshot_meta.index), offset, count) or b""

    def snapshot_chunks(self) -> Iterator[bytes]:
        """What was written into the current snapshot. Raises SnapshotDamaged."""
        if self.snapshot_meta.index:
            name = snapshot_name(self.snapshot_meta.index)
            yield from read_chunks(self._disk, name, SnapshotCheck())

    def begin_snapshot(self, meta: SnapshotMeta) -> SnapshotFile:
        """A snapshot of our own state; one that was begun before and not finished is dropped."""
        return SnapshotFile(self._disk, SNAPSHOT_NEW, meta, self._finished)

    def receive_snapshot(self, meta: SnapshotMeta, total_bytes: int) -> IncomingSnapshot:
        """Go on with what has arrived of it; another one's beginning is dropped."""
        return IncomingSnapshot(self._disk, SNAPSHOT_PART, meta, total_bytes)

    def install(self, meta: SnapshotMeta) -> None:
        """The snapshot that was received is the state's base now, and the log is empty after it.

        Only after IncomingSnapshot.complete(). Durable in one step, the renaming: a log that does
        not lead up to the newest snapshot is void, whether the next frame has said so or not.
        Raises ValueError when a newer one is there.
        """
        older = self.snapshot_meta.index
        if meta.index <= older:
            raise ValueError(f"a snapshot at {older} is there already")
        self._disk.rename(SNAPSHOT_PART, snapshot_name(meta.index))
        self.storage.install(meta)
        self._base = (meta.index, meta.term)
        self._drop_older(older)

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, at most those in the snapshot, and their segments."""
        index = min(index, self.snapshot_meta.index)
        self.storage.compact(index)
        while len(self._segments) > 1 and self._segments[1][1] <= index:
            number, _ = self._segments.pop(0)
            self._disk.remove(wal.segment_name(number))

    def _finished(self, meta: SnapshotMeta) -> None:
        older = self.snapshot_meta.index
        if meta.index < older:
            self._disk.remove(SNAPSHOT_NEW)  # another peer's was installed meanwhile
            return
        self._disk.rename(SNAPSHOT_NEW, snapshot_name(meta.index))
        self._measured = (0, 0)
        self.storage.create_snapshot(meta)
        self._drop_older(older)

    def _drop_older(self, index: int) -> None:
        if not self._mark.known:
            self._mark.create()
        self._mark.note(self._next_number - 1, self.snapshot_meta.index)
        if 0 < index < self.snapshot_meta.index:  # else a damaged one was written anew
            self._disk.remove(snapshot_name(index))

    def _load(self, back: Recovered) -> MemoryStorage:
        found, snapshot = back.found, back.snapshot
        storage = MemoryStorage()
        if back.voids_log:
            storage.install(snapshot)
            self._base = (snapshot.index, snapshot.term)
        else:
            storage.install(SnapshotMeta(*found.base))
            storage.append(found.entries)
            storage.create_snapshot(snapshot)
        state = found.hard_state
        if (
            state.term < snapshot.term
        ):  # installed before the term was saved; no vote was cast in it
            state = HardState(snapshot.term, None, state.commit)
        if state.commit < snapshot.index:
            state = HardState(state.term, state.vote, snapshot.index)
        if state != found.hard_state:
            self._unsaved = state
        storage.set_hard_state(state)
        return storage
