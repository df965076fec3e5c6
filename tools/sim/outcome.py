"""What came of one seed. Imports nothing of the product, which a mutant may replace first."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`invariant` is None when all held; times in simulated microseconds."""

    seed: int
    parameters: list[str]
    invariant: str | None
    sentence: str
    where: str
    counts: Counter[str]
    simulated: int
    healed_after: int
    events: int
    trace: list[str]
