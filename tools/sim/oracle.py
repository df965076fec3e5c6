"""What the run has established for ever: who led which term, what was committed at which index."""

from dataclasses import dataclass, field
from typing import NamedTuple

from consensus.changes import ConfState


class Committed(NamedTuple):
    term: int  # of the entry
    chain: int  # hash of the log up to and including it
    in_term: int  # of the node that first said it was committed


@dataclass(slots=True)
class Oracle:
    """Grows during a run and never forgets; the checks compare every later event with it."""

    leaders: dict[int, str] = field(default_factory=dict)
    committed: list[Committed] = field(default_factory=lambda: [Committed(0, 0, 0)])
    configurations: dict[int, ConfState] = field(default_factory=dict)
    states: dict[int, tuple[int, str]] = field(default_factory=dict)  # checksum, and whose

    @property
    def last_committed(self) -> int:
        return len(self.committed) - 1

    def committed_before_term(self, term: int) -> int:
        """The last index up to which everything was committed in a term before this one."""
        index = self.last_committed
        while index and self.committed[index].in_term >= term:
            index -= 1
        return index
