"""The log as the core sees it: what storage holds, then what is not durable yet."""

from consensus.changes import SnapshotMeta
from consensus.errors import RaftError, SafetyViolation
from consensus.messages import Entry, EntryType
from consensus.storage import Storage, cut_to_bytes


class RaftLog:
    """Entries first_index() … last_index(). `unstable` starts at `offset` and hides storage there.

    `pending`: a snapshot that replaces the whole log and is not installed yet; only `unstable`
    counts after it.
    """

    def __init__(self, storage: Storage, committed: int) -> None:
        """Raises ValueError when `committed` contradicts what storage holds."""
        snapshot, last = storage.snapshot(), storage.last_index()
        # After a crash between installing a snapshot and saving the commit index it is behind.
        committed = max(committed, snapshot.index)
        if not storage.first_index() - 1 <= snapshot.index <= committed <= last:
            raise ValueError(
                f"snapshot {snapshot.index}, committed {committed}, first entry "
                f"{storage.first_index()} and last entry {last} are out of order: part of the log "
                "was lost"
            )
        self._storage = storage
        self.unstable: list[Entry] = []
        self.pending: SnapshotMeta | None = None
        self.offset = last + 1
        self.committed = committed
        self.applied = snapshot.index

    def snapshot(self) -> SnapshotMeta:
        """The newest snapshot, installed or not; index 0 when there is none."""
        return self.pending or self._storage.snapshot()

    def first_index(self) -> int:
        """The first entry that was not compacted away."""
        return self._storage.first_index() if self.pending is None else self.pending.index + 1

    def last_index(self) -> int:
        """Index of the last entry, 0 when empty."""
        return self.offset + len(self.unstable) - 1

    def last_term(self) -> int:
        """Term of the last entry, 0 when empty."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Term of entry `index`; 0 for index 0, beyond the end, and where it was compacted away.

        The last compacted entry's term is still known.
        """
        if not self.first_index() - 1 <= index <= self.last_index() or index <= 0:
            return 0
        if index >= self.offset:
            return self.unstable[index - self.offset].term
        if self.pending is not None:
            return self.pending.term
        return self._storage.term(index)

    def matches(self, index: int, term: int) -> bool:
        """Whether entry `index` exists (0 always does) and is of `term`; no for a compacted one."""
        known = index == 0 or self.first_index() - 1 <= index <= self.last_index()
        return known and self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log ending in (index, term) is as complete as this one (paper §5.4.1)."""
        return (term, index) >= (self.last_term(), self.last_index())

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """Entries low … high - 1, cut to max_bytes of data but at least one.

        Raises SafetyViolation below first_index(): nobody may ask for what is not there.
        """
        if low < self.first_index():
            raise SafetyViolation(f"entry {low} was asked for, the log starts later")
        found: list[Entry] = []
        if low < self.offset:
            stored = list(self._storage.entries(low, min(high, self.offset), max_bytes))
            if len(stored) < min(high, self.offset) - low:
                return stored
            found = stored
        if high > self.offset:
            start = max(low, self.offset) - self.offset
            found = cut_to_bytes(found + self.unstable[start : high - self.offset], max_bytes)
        return found

    def append(self, entries: list[Entry]) -> None:
        """Truncate at entries[0].index, then append. Raises SafetyViolation below committed."""
        if not entries:
            return
        first = entries[0].index
        if first <= self.committed:
            raise SafetyViolation(
                f"entry {first} would be replaced although {self.committed} is committed; "
                "stop this peer and give it a fresh data directory"
            )
        if first <= self.offset:
            self.unstable, self.offset = list(entries), first
        else:
            del self.unstable[first - self.offset :]
            self.unstable.extend(entries)

    def maybe_append(self, index: int, term: int, entries: tuple[Entry, ...]) -> bool:
        """Take over a leader's entries after (index, term). False when there is no such entry here.

        Only a conflicting entry truncates; an old message that repeats what is here changes
        nothing.
        """
        if not self.matches(index, term):
            return False
        for place, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self.append(list(entries[place:]))
                break
        return True

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The greatest (i, its term), i ≤ index and its term ≤ term: where two logs may agree.

        Ends where the log was compacted: there the term counts as 0.
        """
        index = min(index, self.last_index())
        while index > 0 and self.term(index) > term:
            index -= 1
        return index, self.term(index)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; never lowers it, never passes the end."""
        self.committed = max(self.committed, min(index, self.last_index()))

    def restore(self, meta: SnapshotMeta) -> None:
        """Start over from a snapshot. Raises SafetyViolation where that would go back."""
        if meta.index <= self.committed:
            raise SafetyViolation(
                f"a snapshot at {meta.index} would replace a log committed up to {self.committed}"
            )
        self.unstable, self.offset, self.pending = [], meta.index + 1, meta
        self.committed = meta.index

    def stable_to(self, index: int, term: int) -> None:
        """Storage holds everything up to (index, term), unless that was replaced meanwhile."""
        if index >= self.offset and self.matches(index, term):
            del self.unstable[: index + 1 - self.offset]
            self.offset = index + 1

    def installed(self, meta: SnapshotMeta) -> None:
        """Storage and the host's state start from `meta`; a newer one may be pending by now.

        Raises RaftError when storage does not have it.
        """
        if self._storage.snapshot().index < meta.index:
            raise RaftError(f"advance() before the snapshot at {meta.index} was installed")
        if self.pending == meta:
            self.pending = None
        self.applied_to(meta.index)

    def applied_to(self, index: int) -> None:
        """The host applied everything up to `index`."""
        self.applied = max(self.applied, index)

    def has_committed(self) -> bool:
        """Whether next_committed() would return anything."""
        return self.pending is None and self.applied < self.committed

    def next_committed(self, max_bytes: int) -> list[Entry]:
        """Committed entries that were not applied, in order, cut to max_bytes but at least one."""
        if not self.has_committed():
            return []
        return self.entries(self.applied + 1, self.committed + 1, max_bytes)

    def has_unapplied_conf_change(self) -> bool:
        """Whether a committed membership change waits to be applied."""
        waiting = self.next_committed(1 << 62)
        return any(entry.type is EntryType.CONF_CHANGE for entry in waiting)
