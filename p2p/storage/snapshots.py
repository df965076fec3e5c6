"""When a snapshot of the state is taken, and how: a slice at a time, between everything else.

The state is made of frozen records, so the one that was current at the beginning stays as it was
while slices of it are written, whatever is applied meanwhile: no copy, no fork, no thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from consensus.changes import SnapshotMeta
from p2p.clock import Clock
from p2p.replicated.state import State
from p2p.replicated.wire import to_chunks
from p2p.storage.log_store import LogStore
from p2p.storage.snapshot_file import SnapshotFile

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """A snapshot is due after so many entries, or so many bytes of them, since the last one.

    Both grow with the size of the last snapshot beyond `every_bytes`, or a large state would be
    written again for every small change. `keep_*`: what stays of the log before a snapshot, for
    followers that are a little slow; `patience` times `every_*` for those that just got one. A
    slice ends after `slice_s` or `slice_chunks`.
    """

    every_entries: int = 10_000
    every_bytes: int = 8 * MIB
    keep_entries: int = 2_000
    keep_bytes: int = 4 * MIB
    slice_s: float = 0.002
    slice_chunks: int = 4
    pause_s: float = 0.004
    # A transfer under way would have to begin anew: wait for it, but not for ever.
    patience: int = 4

    def is_due(
        self, last: int, applied: int, log_bytes: int, snapshot_bytes: int, in_use: bool
    ) -> bool:
        """`last`: the last snapshot's index. log_bytes: of the entries since. in_use: it is being
        sent to somebody.

        Entries are counted in multiples of the index, so that peers of which one had to put one off
        come together again at the next.
        """
        scale = max(1.0, snapshot_bytes / self.every_bytes)
        step = int(self.every_entries * scale)
        times = self.patience if in_use else 1
        steps = applied // step - last // step
        return steps >= times or log_bytes >= self.every_bytes * scale * times


DEFAULT_POLICY = SnapshotPolicy()


@dataclass(frozen=True, slots=True)
class Captured:
    """What a snapshot is made of: `state` is the one after entry meta.index."""

    meta: SnapshotMeta
    state: State


class SnapshotTaker:
    """Counts what is applied; writes a snapshot when due and forgets the log behind it.

    A write that fails raises DiskFailed out of the event loop's callback and ends the peer, as any
    other. A snapshot that is not finished when the peer ends is worth nothing and is begun anew.
    """

    def __init__(
        self,
        store: LogStore,
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
        policy: SnapshotPolicy,
        needed_after: Callable[[], int],
    ) -> None:
        """`needed_after()`: somebody who is catching up needs the entries after this one."""
        self._store = store
        self._clock = clock
        self._call_later = call_later
        self._policy = policy
        self._needed_after = needed_after
        self._index = store.snapshot_meta.index  # of the newest one, or of the one under way
        self._log_bytes = 0  # applied when that was begun
        self._forced = False
        self._file: SnapshotFile | None = None
        self._chunks: Iterator[bytes] = iter(())
        # The disk may still have had more of the log than was in memory.
        store.compact(self._behind(self._index, policy.keep_entries, policy.keep_bytes))

    def force(self) -> None:
        """Take a new one as soon as possible: the last one is damaged."""
        self._forced = True

    def is_due(self, applied: int, log_bytes: int, in_use: bool) -> bool:
        """Whether to begin one now, after entry `applied`. log_bytes: all entries' so far.

        It depends on nothing but the log (and the snapshots before), so that all peers take theirs
        at the same entries: then what a joiner got from one leader is a part of the next one's.
        """
        if self._file is not None or self._forced:
            return self._file is None  # a damaged one is replaced, be it at the same entry
        if applied == self._store.snapshot_meta.index:
            return False
        since, size = log_bytes - self._log_bytes, self._store.snapshot_bytes
        return self._policy.is_due(self._index, applied, since, size, in_use)

    def begin(self, captured: Captured, log_bytes: int) -> None:
        self._index, self._log_bytes = captured.meta.index, log_bytes
        self._forced = False
        self._file = self._store.begin_snapshot(captured.meta)
        self._chunks = to_chunks(captured.state)
        self._slice_later(0.0, self._file)

    def abandon(self, installed: int, log_bytes: int) -> None:
        """Another peer's snapshot at `installed` takes the place of ours."""
        if self._file is not None:
            self._file.discard()
        self._file, self._chunks = None, iter(())
        self._index, self._log_bytes = installed, log_bytes

    def _slice_later(self, delay_s: float, file: SnapshotFile) -> None:
        self._call_later(delay_s, lambda: self._slice(file) if file is self._file else None)

    def _slice(self, file: SnapshotFile) -> None:
        end_s = self._clock.monotonic_s() + self._policy.slice_s
        for _ in range(self._policy.slice_chunks):
            chunk = next(self._chunks, None)
            if chunk is None:
                self._finish(file)
                return
            file.write(chunk)
            if self._clock.monotonic_s() >= end_s:
                break
        file.sync_some()
        self._slice_later(self._policy.pause_s, file)

    def _finish(self, file: SnapshotFile) -> None:
        self._file = None
        file.finish()
        self._store.compact(self._forgettable(self._store.snapshot_meta.index))

    def _forgettable(self, index: int) -> int:
        """The last entry to forget. A follower that has just got a snapshot must find the entries
        behind that one, or it would need a snapshot again and again while many commands come.
        """
        policy = self._policy
        least = self._behind(index, policy.keep_entries, policy.keep_bytes)
        most = self._behind(
            index, policy.patience * policy.every_entries, policy.patience * policy.every_bytes
        )
        return max(most, min(least, self._needed_after()))

    def _behind(self, index: int, count: int, size: int) -> int:
        """The entry before the last ones up to `index`, at most so many, and so many bytes."""
        storage = self._store.storage
        first = max(storage.first_index(), index + 1 - count)
        kept_bytes = 0
        for entry in reversed(storage.entries(first, index + 1, 1 << 62)):
            kept_bytes += len(entry.data)
            if kept_bytes > size:
                return entry.index
        return first - 1
