"""How a job's shards are dealt to its trainers: pure.

The round of a step ends with its slowest trainer. By what a shard takes each of them, `deal` finds
the numbers of shards with which the last one is done as early as can be; who computes a shard
does not change its result (DESIGN: same bits). A change costs the ring a moment, so `better` asks
for a gain that is clear, and clear twice: by the older and by the newer of two measurements.
"""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

# A change must make steps shorter by this share of their time.
GAIN = 0.1
# With one shard it still holds up the others so much longer than they would need for everything.
HOPELESS_TIMES = 3.0


class Pace(NamedTuple):
    """Means over one measurement, in seconds: of computing a shard, and of a whole step."""

    shard_s: float
    step_s: float


class Paces(NamedTuple):
    """Of one trainer: the two last measurements."""

    older: Pace
    newer: Pace


def deal(shards: int, shard_s: Sequence[float]) -> list[int]:
    """Shards of each trainer, at least one if there are enough, so that the largest of number times
    `shard_s` is the smallest possible. Raises ValueError without trainers."""
    if not shard_s:
        raise ValueError("nobody to deal shards to")
    ranks = range(len(shard_s))
    counts = [1 if rank < shards else 0 for rank in ranks]
    for _ in range(shards - sum(counts)):
        counts[min(ranks, key=lambda rank: ((counts[rank] + 1) * shard_s[rank], rank))] += 1
    return counts


def ranges(counts: Sequence[int]) -> list[tuple[int, int]]:
    """[first, last) of each, one after the other."""
    ends = [sum(counts[: rank + 1]) for rank in range(len(counts))]
    return [(end - count, end) for end, count in zip(ends, counts, strict=True)]


def filled(shard_s: Sequence[float | None]) -> list[float]:
    """With what is usual for those of whom nothing is known yet."""
    known = [seconds for seconds in shard_s if seconds is not None and seconds > 0]
    usual = median(known) if known else 1.0
    return [seconds if seconds is not None and seconds > 0 else usual for seconds in shard_s]


def better(held: Sequence[int], paces: Sequence[Paces]) -> list[int] | None:
    """Other numbers of shards that are worth a change, or None. `held`: those of now."""
    counts = deal(sum(held), [told.newer.shard_s for told in paces])
    for older in (True, False):
        measured = [told.older if older else told.newer for told in paces]
        now_s, then_s = _round_s(held, measured), _round_s(counts, measured)
        if now_s - then_s < GAIN * max(pace.step_s for pace in measured):
            return None
    return counts


def hopeless(held: Sequence[int], paces: Sequence[Paces]) -> int | None:
    """The rank that holds up the others although it has one shard only, or None."""
    if len(held) < 2:
        return None
    slow = max(range(len(held)), key=lambda rank: paces[rank].newer.shard_s)
    if held[slow] > 1:
        return None
    rest = [told for rank, told in enumerate(paces) if rank != slow]
    for older in (True, False):
        others_s = [(told.older if older else told.newer).shard_s for told in rest]
        without_s = max(
            number * seconds
            for number, seconds in zip(deal(sum(held), others_s), others_s, strict=True)
        )
        own_s = (paces[slow].older if older else paces[slow].newer).shard_s
        if own_s < HOPELESS_TIMES * without_s:
            return None
    return slow


def _round_s(counts: Sequence[int], measured: Sequence[Pace]) -> float:
    return max(number * pace.shard_s for number, pace in zip(counts, measured, strict=True))
