"""The simulator's own record of each log: the term at each index and a hash of everything up to it.

Two logs with equal hashes at an index hold the same entries up to there, so comparing logs costs
one look. The hashes never reach the trace: they differ from process to process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.messages import Entry, EntryType, HardState


class ShadowLog:
    def __init__(self) -> None:
        self.terms = [0]
        self.chain = [0]
        self.changes: list[int] = []  # where membership changes are

    @property
    def last(self) -> int:
        return len(self.terms) - 1

    def replace(self, entries: Sequence[Entry]) -> None:
        """Truncate to before the first entry, then append, as a write-ahead log frame does."""
        if not entries:
            return
        first = entries[0].index
        del self.terms[first:]
        del self.chain[first:]
        while self.changes and self.changes[-1] >= first:
            self.changes.pop()
        for entry in entries:
            self.terms.append(entry.term)
            self.chain.append(link(self.chain[-1], entry))
            if entry.type is EntryType.CONF_CHANGE:
                self.changes.append(entry.index)


def link(before: int, entry: Entry) -> int:
    return hash((before, entry.term, int(entry.type), entry.data))


@dataclass(frozen=True, slots=True)
class Batch:
    """One write that is not synced yet."""

    hard_state: HardState | None
    entries: Sequence[Entry]


class Durable:
    """What would survive a power cut now: the record of completed syncs (P in the invariants)."""

    def __init__(self) -> None:
        self.term = 0
        self.vote: str | None = None
        self.commit = 0
        self.log = ShadowLog()
        self.pending: list[Batch] = []

    def write(self, batch: Batch) -> None:
        self.pending.append(batch)

    def sync(self) -> None:
        for batch in self.pending:
            self.accept(batch)
        self.pending.clear()

    def accept(self, batch: Batch) -> None:
        if batch.hard_state is not None:
            self.term = batch.hard_state.term
            self.vote = batch.hard_state.vote
            self.commit = batch.hard_state.commit
        self.log.replace(batch.entries)
