"""topk: of every step's vector only the values that are largest somewhere, the others later.

Every shard names the `ratio * n / V` positions where its own vector, with its memory, is largest;
of all these together (at most ratio * n) the exact sum over all shards travels, as int32. So unlike
where everybody sends values of its own (Lin et al., "Deep gradient compression", 2018), the result
depends neither on the membership nor on any order, and the bytes do not grow with the number of
trainers. What was not sent is remembered (feedback.py).

Per position sent 4 bytes to (N-1)/N others, and 4 on the way of an all-reduce. Error, not counting
what is remembered: a value not sent is, in every shard, at most the smallest that this shard named.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collectives.codecs.codec import Float32s, Group, Scales, Vector
from collectives.codecs.feedback import Remembering
from collectives.codecs.int32 import Int32
from collectives.errors import OutOfStep
from collectives.kernels.portable import tiles

Positions = NDArray[np.int32]

_MAGNITUDE = np.int32(0x7FFFFFFF)
_SAMPLES = 1 << 16
_TILE_VALUES = 1 << 16


class TopK(Remembering):
    name = "topk"
    order_free = True

    def __init__(self, vector: Vector, option: float) -> None:
        super().__init__(vector, option)
        self._sent: NDArray[np.intp] = np.zeros(0, np.intp)

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        self.recall(rows, numbers)
        share = math.ceil(self.option * self.vector.length / self.vector.shards)
        named = [largest_positions(row, share) for row in rows]
        mine = np.unique(np.concatenate(named)) if named else np.zeros(0, np.int32)
        chosen = self._everybodys(group, mine)
        exact = Int32(Vector(len(chosen), self.vector.shards))
        picked = np.empty((len(rows), len(chosen)), np.float32)
        for row, few in zip(rows, picked, strict=True):
            np.take(row, chosen, out=few)
        sums = np.empty(len(chosen), np.float32)
        if not exact.reduce(group, picked, numbers, step, sums):
            return False
        out.fill(0)
        out[chosen] = sums
        return True

    def _everybodys(self, group: Group, mine: Positions) -> Positions:
        """All positions that anybody named, in order."""
        others = [(group.rank + hop) % group.size for hop in range(1, group.size)]
        for rank in others:
            group.send(rank, mine.tobytes())
        arrived = [np.frombuffer(group.receive(rank), np.int32) for rank in reversed(others)]
        chosen: Positions = np.unique(np.concatenate([mine, *arrived]))
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < self.vector.length:
            raise OutOfStep("another rank names positions that its vector does not have")
        return chosen

    def keep(self, average: Float32s) -> None:
        # A sum that is zero counts as not sent: so the average alone says what was.
        self._sent = np.flatnonzero(average)
        super().keep(average)

    def left_out(self, row: Float32s, average: Float32s, out: Float32s) -> None:
        np.copyto(out, row)
        out[self._sent] = 0


def largest_positions(values: Float32s, count: int) -> Positions:
    """Where the `count` largest magnitudes are, in order; of equal ones the first, zeros never."""
    count = min(count, len(values))
    if not count:
        return np.zeros(0, np.int32)
    where, bits = _at_least(values, _low_guess(values, count))
    if len(where) < count:
        where, bits = _at_least(values, 1)
    if len(where) <= count:
        return where
    smallest = np.partition(bits, len(bits) - count)[len(bits) - count]
    above = np.flatnonzero(bits > smallest)
    equal = np.flatnonzero(bits == smallest)[: count - len(above)]
    chosen: Positions = where[np.sort(np.concatenate([above, equal]))]
    return chosen


def _low_guess(values: Float32s, count: int) -> int:
    """A magnitude, as bits, that more than `count` values probably reach, by a sample of them.

    (As in Lin et al.; which are the largest is settled exactly.)
    """
    sample = values[:: max(1, len(values) // _SAMPLES)].view(np.int32) & _MAGNITUDE
    rank = min(len(sample), math.ceil(len(sample) * count / len(values) * 1.25) + 8)
    return max(1, int(np.partition(sample, len(sample) - rank)[len(sample) - rank]))


def _at_least(values: Float32s, least: int) -> tuple[Positions, Positions]:
    """Where the magnitudes are at least `least`, as bits, and these bits. Both in order."""
    where, found = [], []
    for _, span in tiles(len(values), _TILE_VALUES):
        bits = values[span].view(np.int32) & _MAGNITUDE
        here = np.flatnonzero(bits >= least)
        where.append((here + span.start).astype(np.int32))
        found.append(bits[here])
    return np.concatenate(where), np.concatenate(found)
