"""What a part of the benchmark found: lines for people, numbers for JSON, goals reached or not."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.bench.contender import percentile


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` shall be at least `limit`, or at most."""

    what: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        verdict = "reached" if self.is_reached else "missed"
        figure = f"{self.value:.3g} {self.unit}"
        return f"goal: {self.what} {bound} {self.limit:g} {self.unit}: {figure} - {verdict}"


@dataclass(frozen=True, slots=True)
class Part:
    """`rows`: one per line of its table, `problems`: what must not be."""

    rows: Sequence[dict[str, Any]]
    goals: Sequence[Goal]
    lines: Sequence[str] = ()
    problems: Sequence[str] = field(default=())

    @property
    def is_well(self) -> bool:
        return not self.problems and all(goal.is_reached for goal in self.goals)

    def printed(self) -> Iterator[str]:
        yield from self.lines
        yield from map(str, self.goals)
        yield from (f"PROBLEM: {problem}" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        goals = [{**asdict(goal), "reached": goal.is_reached} for goal in self.goals]
        return {"rows": list(self.rows), "goals": goals, "problems": list(self.problems)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile, most, and of how many. Of nothing: NaN."""
    if not values:
        return {"median": float("nan"), "p95": float("nan"), "max": float("nan"), "of": 0}
    middle, most = statistics.median(values), max(values)
    return {"median": middle, "p95": percentile(values, 0.95), "max": most, "of": len(values)}


def told(found: dict[str, float], factor: float = 1.0, digits: int = 2) -> str:
    """`spread` as three columns."""
    return "".join(f"{factor * found[name]:10.{digits}f}" for name in ("median", "p95", "max"))


HEADS = f"{'median':>10}{'p95':>10}{'max':>10}"
