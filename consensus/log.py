"""The log as the core sees it: what storage holds, then what is not durable yet."""

from consensus.errors import SafetyViolation
from consensus.messages import Entry, EntryType
from consensus.storage import Storage, cut_to_bytes


class RaftLog:
    """Entries 1 … last_index(). `unstable` starts at `offset` and hides storage from there on."""

    def __init__(self, storage: Storage, committed: int, applied: int) -> None:
        last = storage.last_index()
        if not applied <= committed <= last:
            raise ValueError(
                f"applied {applied}, committed {committed} and last entry {last} are out of order: "
                "part of the log was lost"
            )
        self._storage = storage
        self.unstable: list[Entry] = []
        self.offset = last + 1
        self.committed = committed
        self.applied = applied

    def last_index(self) -> int:
        """Index of the last entry, 0 when empty."""
        return self.offset + len(self.unstable) - 1

    def last_term(self) -> int:
        """Term of the last entry, 0 when empty."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Term of entry `index`; 0 for index 0 and beyond the end."""
        if index <= 0 or index > self.last_index():
            return 0
        if index >= self.offset:
            return self.unstable[index - self.offset].term
        return self._storage.term(index)

    def matches(self, index: int, term: int) -> bool:
        """Whether entry `index` exists (0 always does) and is of `term`."""
        return index <= self.last_index() and self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log ending in (index, term) is as complete as this one (paper §5.4.1)."""
        return (term, index) >= (self.last_term(), self.last_index())

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """Entries low … high - 1, cut to max_bytes of data but at least one."""
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
        """The greatest (i, its term), i ≤ index and its term ≤ term: where two logs may agree."""
        index = min(index, self.last_index())
        while index > 0 and self.term(index) > term:
            index -= 1
        return index, self.term(index)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; never lowers it, never passes the end."""
        self.committed = max(self.committed, min(index, self.last_index()))

    def stable_to(self, index: int, term: int) -> None:
        """Storage holds everything up to (index, term), unless that was replaced meanwhile."""
        if index >= self.offset and self.matches(index, term):
            del self.unstable[: index + 1 - self.offset]
            self.offset = index + 1

    def applied_to(self, index: int) -> None:
        """The host applied everything up to `index`."""
        self.applied = max(self.applied, index)

    def next_committed(self) -> list[Entry]:
        """Committed entries that were not applied, in order."""
        if self.applied >= self.committed:
            return []
        return self.entries(self.applied + 1, self.committed + 1, 1 << 62)

    def has_unapplied_conf_change(self) -> bool:
        """Whether a committed membership change waits to be applied."""
        return any(entry.type is EntryType.CONF_CHANGE for entry in self.next_committed())
