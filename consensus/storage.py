"""What the core may read of the durable log, and an implementation in memory."""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, HardState


class Storage(Protocol):
    """Read side. The host persists what a Ready holds before it calls advance()."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state, and the configuration at the snapshot."""

    def snapshot(self) -> SnapshotMeta:
        """The newest snapshot that is durable; index 0 when there is none."""

    def entries(self, low: int, high: int, max_bytes: int) -> Sequence[Entry]:
        """Entries low … high - 1, cut to max_bytes of data but at least one; all there."""

    def term(self, index: int) -> int:
        """Term of the entry at `index`, first_index() - 1 ≤ index ≤ last_index()."""

    def first_index(self) -> int:
        """The first entry that was not compacted away; last_index() + 1 when none is there."""

    def last_index(self) -> int:
        """Index of the last entry, that of the snapshot when there is none after it."""


class MemoryStorage:
    """The log since the last compaction as a list: what a host keeps beside its write-ahead log."""

    def __init__(
        self,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        snapshot: SnapshotMeta | None = None,
    ) -> None:
        """`entries` follow the snapshot, or start before its end (then the first, if it is not
        entry 1, only tells the term at the start). Raises ValueError when there is a gap.
        """
        self.hard_state = hard_state or HardState()
        self._snapshot = snapshot or SnapshotMeta()
        self._entries: list[Entry] = []
        self._before, self._before_term = self._snapshot.index, self._snapshot.term
        if entries and entries[0].index <= self._snapshot.index:
            first, self._before, self._before_term = entries[0], 0, 0
            if first.index > 1:
                self._before, self._before_term = first.index, first.term
                entries = entries[1:]
        self.append(entries)

    def initial_state(self) -> tuple[HardState, ConfState]:
        """See Storage."""
        return self.hard_state, self._snapshot.conf

    def snapshot(self) -> SnapshotMeta:
        """See Storage."""
        return self._snapshot

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """See Storage. Raises IndexError for entries that were compacted away."""
        if low <= self._before:
            raise IndexError(f"entry {low} was compacted away, the log starts after {self._before}")
        start = self._before + 1
        return cut_to_bytes(self._entries[low - start : high - start], max_bytes)

    def term(self, index: int) -> int:
        """See Storage. Raises IndexError outside of the log."""
        if index == self._before:
            return self._before_term
        if index < self._before:
            raise IndexError(f"entry {index} was compacted away")
        return self._entries[index - self._before - 1].term

    def first_index(self) -> int:
        """See Storage."""
        return self._before + 1

    def last_index(self) -> int:
        """See Storage."""
        return self._before + len(self._entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Replace everything from entries[0].index on by `entries`. Raises ValueError on a gap."""
        if not entries:
            return
        first = entries[0].index
        if not self._before < first <= self.last_index() + 1:
            raise ValueError(f"entry {first} does not follow the last entry {self.last_index()}")
        del self._entries[first - self._before - 1 :]
        self._entries.extend(entries)

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state."""
        self.hard_state = hard_state

    def create_snapshot(self, meta: SnapshotMeta) -> None:
        """A snapshot of the state at `meta` is durable. Raises ValueError when it goes back."""
        if not self._snapshot.index <= meta.index <= self.last_index():
            raise ValueError(
                f"a snapshot at {meta.index} lies before the one at {self._snapshot.index} or "
                f"after the last entry {self.last_index()}"
            )
        self._snapshot = meta

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`. Raises ValueError beyond the snapshot."""
        if index > self._snapshot.index:
            raise ValueError(f"entry {index} is not in the snapshot at {self._snapshot.index} yet")
        if index > self._before:
            self._before_term = self.term(index)
            del self._entries[: index - self._before]
            self._before = index

    def install(self, meta: SnapshotMeta) -> None:
        """Another peer's snapshot replaces everything. Raises ValueError when it goes back."""
        if meta.index < self._snapshot.index:
            raise ValueError(f"a snapshot at {self._snapshot.index} is there already")
        self._snapshot, self._entries = meta, []
        self._before, self._before_term = meta.index, meta.term


def cut_to_bytes(entries: list[Entry], max_bytes: int) -> list[Entry]:
    """The longest prefix whose data fits into max_bytes, but at least one entry."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if size > max_bytes and count:
            return list(islice(entries, count))
    return entries
