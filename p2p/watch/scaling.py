"""How much faster more trainers were, from what was measured while they trained. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from p2p.replicated.state import Job
from p2p.watch.facts import stretches

MARKS_MIN = 6  # of one number of trainers, about three seconds
JOBS_MAX = 5


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


def measured(job: Job, jobs: Iterable[Job]) -> list[Speed]:
    """By number of trainers, the fewest first; [] where nothing was measured for long enough.

    What other jobs of the same task, batch, shards and method were measured at counts as well.
    """
    rates: dict[int, list[float]] = defaultdict(list)
    for other in jobs:
        if _kind(other) != _kind(job):
            continue
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


def newest(jobs: Iterable[Job]) -> list[Job]:
    """The jobs to tell of: those that run, else the last; one of each kind, the newest first."""
    found: dict[tuple[Any, ...], Job] = {}
    for job in reversed(list(jobs)):
        if job.generations:
            found.setdefault(_kind(job), job)
    return list(found.values())[:JOBS_MAX]
