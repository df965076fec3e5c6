"""The simulator's own record of each log: the term at each index and a checksum of all up to it.

Two logs with equal checksums at an index hold the same entries up to there, so comparing logs costs
one look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from consensus.messages import Entry, EntryType, HardState
from tools.sim.disk import SimDisk

if TYPE_CHECKING:
    from tools.sim.oracle import Committed


class ShadowLog:
    """Index 0 is `base`: what a snapshot covers, with the term and checksum at its end."""

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

    def install(self, index: int, committed: "Sequence[Committed]") -> None:
        """Start over with what everybody knows to be committed up to a snapshot."""
        self.terms = [entry.term for entry in committed[: index + 1]]
        self.chain = [entry.chain for entry in committed[: index + 1]]
        self.changes = []


def link(before: int, entry: Entry) -> int:
    start = crc32(b"%d %d %d" % (before, entry.term, entry.type))
    return crc32(entry.data, start) << 32 | start


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of the log store, and the files it wrote. `snapshot`: its index, if it is one."""

    hard_state: HardState
    entries: Sequence[Entry]
    files: frozenset[str]
    snapshot: int = 0


class Durable:
    """What would survive a power cut now: the record of completed syncs (P in the invariants)."""

    def __init__(self, disk: SimDisk, committed: "Sequence[Committed]") -> None:
        """`committed` is the oracle's, which grows."""
        self._committed = committed
        self.term = 0
        self.vote: str | None = None
        self.log = ShadowLog()
        self.pending: list[Batch] = []
        self._disk = disk
        self._newest = HardState()
        self._interrupted = False

    def found(self, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """What was there before the run."""
        self._newest = hard_state
        self.accept(Batch(hard_state, entries, frozenset()))

    def save(
        self, hard_state: HardState | None, entries: Sequence[Entry], files: frozenset[str]
    ) -> None:
        """The log store was told to make this durable, and wrote to these files."""
        self._newest = hard_state or self._newest
        self.pending.append(Batch(self._newest, entries, files))

    def install(self, index: int, files: frozenset[str]) -> None:
        """The log store was told to start over from a snapshot."""
        self.pending.append(Batch(self._newest, (), files, index))

    def settle(self) -> None:
        """Take over what is on the platter by now, in order."""
        while self.pending and not self._interrupted:
            batch = self.pending[0]
            if not batch.files or not self._disk.is_durable(batch.files):
                return
            self.accept(self.pending.pop(0))

    def interrupt(self) -> None:
        """The process ended: how far the pending writes came, only the next one can tell."""
        self._interrupted = True

    def accept(self, batch: Batch) -> None:
        if batch.snapshot:
            self.log.install(batch.snapshot, self._committed)
            if self.term < self.log.terms[-1]:
                self.term, self.vote = self.log.terms[-1], None
            return
        self.term, self.vote = batch.hard_state.term, batch.hard_state.vote
        self.log.replace(batch.entries)

    def recovered(self, hard_state: HardState, log: ShadowLog) -> bool:
        """Whether that is what was durable, plus some whole later batches, in order."""
        while not self._matches(hard_state, log):
            if not self.pending:
                return False
            self.accept(self.pending.pop(0))
        self.pending.clear()
        self._interrupted = False
        self._newest = hard_state
        return True

    def _matches(self, hard_state: HardState, log: ShadowLog) -> bool:
        return (
            (self.term, self.vote) == (hard_state.term, hard_state.vote)
            and self.log.last == log.last
            and self.log.chain[-1] == log.chain[-1]
        )
