"""The data plane between simulated trainers: who has given what to which step, and what must hold.

It reaches everybody, also across partitions: the worst case for the fence, which must hold without
its help. A step is applied from the contributions of all shards, as the real one is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tools.sim.violation import Violation

SHARDS = 12
NAME = "20 training"


@dataclass
class History:
    """What a trainer has applied: `digest` folds in every step once, in order."""

    step: int = 0
    digest: int = 0

    def append(self, step: int) -> None:
        self.step, self.digest = step + 1, fold(self.digest, step)


def fold(digest: int, step: int) -> int:
    return (digest * 1_000_003 + step + 1) % (1 << 61)


@dataclass(frozen=True, order=True)
class File:
    """Part `number` of `count` of a checkpoint."""

    step: int
    digest: int
    count: int
    number: int

    def is_of(self, other: "File") -> bool:
        return (self.step, self.digest, self.count) == (other.step, other.digest, other.count)


@dataclass
class _Round:
    to: int
    newest: int  # generation that had completed a round when this one began
    given: dict[int, tuple[int, int]] = field(default_factory=dict)  # by rank: shards [lo, hi)


class Ring:
    """Of one world. `living`: the history of each trainer that runs, by child."""

    def __init__(self) -> None:
        self.living: dict[str, History] = {}
        self.files: dict[str, File] = {}  # parts of checkpoints, by path
        self.steps = 0
        self._hello: dict[tuple[str, int], dict[int, str]] = {}
        self._offers: dict[tuple[str, int], set[File]] = {}
        self._rounds: dict[tuple[str, int, int], _Round] = {}
        self._highest: dict[str, int] = {}  # by job, the newest generation that completed a round
        self._expected = [0]

    def hello(self, job: str, generation: int, rank: int, child: str, paths: Iterable[str]) -> None:
        """`paths`: the checkpoints that the log says are on this peer's disk."""
        self._hello.setdefault((job, generation), {})[rank] = child
        offered = self._offers.setdefault((job, generation), set())
        for path in paths:
            if path not in self.files:
                raise Violation(NAME, f"{job}: {path} is in the log and was removed.")
            offered.add(self.files[path])

    def caught_up(self, job: str, generation: int, ranks: int, child: str) -> bool:
        """True once all have said hello; then the child stands at the highest step of all, or at
        that of the newest checkpoint of which they have all parts, if that is farther."""
        there = self._hello.get((job, generation), {})
        if len(there) < ranks or any(other not in self.living for other in there.values()):
            return False  # a donor may have died: the next generation follows
        best = max((self.living[other] for other in there.values()), key=lambda h: h.step)
        offers = self._offers[job, generation]
        for each in sorted(offers):
            parts = {other.number for other in offers if other.is_of(each)}
            if each.step > best.step and parts >= set(range(each.count)):
                best = History(each.step, each.digest)
        mine = self.living[child]
        if mine.step < best.step:
            mine.step, mine.digest = best.step, best.digest
        return True

    def give(
        self, job: str, generation: int, rank: int, step: int, to: int, mine: tuple[int, int]
    ) -> None:
        begun = _Round(to, self._highest.get(job, 0))
        self._rounds.setdefault((job, generation, step), begun).given[rank] = mine
        self._completes_now(job, generation, step)

    def complete(self, job: str, generation: int, step: int) -> int | None:
        """Up to which step this round goes, once everybody has given; None before."""
        told = self._rounds.get((job, generation, step))
        if told is None or len(told.given) < len(self._hello[job, generation]):
            return None
        parts = sorted(told.given.values())
        covered = [shard for lo, hi in parts for shard in range(lo, hi)]
        if covered != list(range(SHARDS)):
            raise Violation(
                NAME, f"{job} step {step} of generation {generation} is made of the shards {parts}."
            )
        return told.to

    def _completes_now(self, job: str, generation: int, step: int) -> None:
        """A round may end late, of which others gave their parts before they left: it gives what
        they compute again. None may begin after a newer generation has completed one."""
        if self.complete(job, generation, step) is None:
            return
        newest = self._rounds[job, generation, step].newest
        if generation < newest:
            raise Violation(
                NAME,
                f"{job} makes step {step} in generation {generation} after generation {newest} "
                "has made one.",
            )
        self._highest[job] = max(generation, self._highest.get(job, 0))

    def check(self, job: str, child: str) -> None:
        """Each step was applied exactly once, in order."""
        history = self.living[child]
        while len(self._expected) <= history.step:
            self._expected.append(fold(self._expected[-1], len(self._expected) - 1))
        if history.digest != self._expected[history.step]:
            raise Violation(NAME, f"{job}: {child} has lost or repeated a step before {history}.")
        self.steps += 1
