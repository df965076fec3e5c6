"""How much faster more trainers were, from what was measured while they trained. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from p2p.replicated.state import Job
from p2p.watch.facts import stretches

MARKS_MIN = 6  # of one number of trainers, about three seconds
# Of each kind, and kinds: an answer looks at so many, up to HISTORY_POINTS_MAX marks each.
JOBS_MAX = KINDS_MAX = 5


@dataclass(frozen=True, slots=True)
class Speed:
    """Of a job, and of those like it. `efficiency`: against the fewest trainers measured, so many
    times as many of which would be 1; `base`: how many those are."""

    trainers: int
    samples_per_s: float
    base: int
    efficiency: float

    def to_wire(self) -> dict[str, Any]:
        return {
            "trainers": self.trainers,
            "samples_per_second": self.samples_per_s,
            "base": self.base,
            "efficiency": self.efficiency,
        }


def measured(jobs: Iterable[Job]) -> list[tuple[Job, list[Speed]]]:
    """The newest job of each kind (task, batch, shards), the newest first, and its speeds: those
    that the last jobs of its kind had with its method."""
    kinds: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in reversed(list(jobs)):
        if job.generations:
            kinds[_kind(job)].append(job)
    alike = list(kinds.values())[:KINDS_MAX]
    return [(of_kind[0], _speeds(of_kind[0], of_kind[:JOBS_MAX])) for of_kind in alike]


def _speeds(job: Job, alike: Iterable[Job]) -> list[Speed]:
    """By number of trainers, the fewest first; [] where nothing was measured for long enough."""
    rates: dict[int, list[float]] = defaultdict(list)
    for other in alike:
        for stretch in stretches(other):
            if stretch.generation.method == job.method:
                trainers = len(stretch.generation.seats)
                # The first mark is of a generation that has just begun.
                rates[trainers] += [mark.samples_per_second for mark in stretch.marks[1:]]
    speeds = {n: median(told) for n, told in sorted(rates.items()) if len(told) >= MARKS_MIN}
    speeds = {n: speed for n, speed in speeds.items() if speed > 0}
    if not speeds:
        return []
    base = min(speeds)
    return [Speed(n, speed, base, speed * base / (speeds[base] * n)) for n, speed in speeds.items()]


def _kind(job: Job) -> tuple[Any, ...]:
    names = ("task", "task_sha", "global_batch", "shards", "threads")
    return tuple(job.spec.get(name) for name in names)
