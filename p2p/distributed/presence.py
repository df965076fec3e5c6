"""What the ranks of a group have told of themselves, and the sentences that follow. Pure.

Every rank counts its collectives from 1. `begun` and `ended` are such counts; a rank that leaves
says how many it has ended, so the others know which of theirs cannot end without it.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    begun: int
    ended: int
    name: str  # of the collective begun last


class Presence:
    def __init__(self, rank: int, size: int) -> None:
        self.others = [other for other in range(size) if other != rank]
        self.left: dict[int, int] = {}  # rank: collectives it had ended
        self.gone: set[int] = set()  # ended without leaving
        self.told: dict[int, Progress] = {}  # the answers to one question

    def departed(self, number: int) -> str:
        """Why collective `number` cannot end any more; empty when it can."""
        if self.gone:
            return f"{ranks(list(self.gone))} ended without leaving the group"
        early = [rank for rank, ended in list(self.left.items()) if ended < number]
        return f"{ranks(early)} left the group before" if early else ""

    def still_here(self) -> list[int]:
        return [rank for rank in self.others if rank not in self.left and rank not in self.gone]

    def missing(self, number: int, name: str) -> str:
        """Who keeps collective `number` from ending, as far as `told` and the departures say."""
        parts = []
        if departed := self.departed(number):
            parts.append(departed)
        silent = [rank for rank in self.still_here() if rank not in self.told]
        late = [rank for rank, told in self.told.items() if told.begun < number]
        elsewhere = [
            rank for rank, told in self.told.items() if told.begun == number and told.name != name
        ]
        if late:
            parts.append(f"{ranks(late)} {'is' if len(late) == 1 else 'are'} missing")
        for rank in elsewhere:
            parts.append(f"rank {rank} called {self.told[rank].name} instead")
        if silent:
            parts.append(f"{ranks(silent)} {'does' if len(silent) == 1 else 'do'} not answer")
        return "; ".join(parts) or "all ranks are in it: it was too slow, or data was lost"


def ranks(numbers: Iterable[int]) -> str:
    """rank 1 / ranks 1, 3."""
    known = sorted(numbers)
    return f"rank{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}"
