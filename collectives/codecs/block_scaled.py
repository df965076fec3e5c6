"""What the block-scaled integer codecs share: one MAX of the blocks' scales, one SUM of integers.

Blocks have 256 values. A block's scale must be the same for all shards before anything is rounded,
so it comes from its largest magnitude over all of them. The integers of V shards cannot overflow,
whatever they are and however they are grouped, so the sum's bits depend on nothing but the shards.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from collectives.blockscale import BLOCK, block_count, note_largest
from collectives.codecs.codec import Array, Codec, Float32s, Group, Scales, Vector
from collectives.codecs.float32 import all_finite
from collectives.kernels import scaled

Int32s = NDArray[np.int32]

FLOAT32_MAX = float(np.finfo(np.float32).max)


class BlockScaled(Codec):
    dtype: ClassVar[type[np.signedinteger]]
    order_free = True

    def __init__(self, vector: Vector, option: float = 0.0) -> None:
        super().__init__(vector, option)
        self._blocks = block_count(vector.length)
        # Integers as wide as the values take their places, which spares memory and its traffic.
        self._in_place = np.dtype(self.dtype).itemsize == np.dtype(np.float32).itemsize
        length = 0 if self._in_place else vector.length
        self._total, self._sums = np.empty(length, self.dtype), np.empty(length, self.dtype)

    def scales(self, rows: Float32s) -> Scales:
        largest = np.zeros(self._blocks, np.int32)
        note_largest(rows, largest)
        return self.scales_of(largest)

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        if not self.all_finite(settled):
            return False
        factors, units = self.factors_and_units(settled)
        total, sums = self._total, self._sums
        if self._in_place:
            sums = out.view(self.dtype)
            total = rows[0].view(self.dtype) if len(rows) else np.empty(len(out), self.dtype)
        if group.size == 1:
            total = sums
        if len(rows):
            self.encode(rows, factors, step, numbers, total)
        else:
            total.fill(0)
        group.all_reduce(total, sums, "sum")
        scaled(sums, units, BLOCK, out)
        largest_sum = float(units.max(initial=0)) * np.iinfo(self.dtype).max
        return largest_sum < FLOAT32_MAX or all_finite(out)

    @abstractmethod
    def scales_of(self, largest: Int32s) -> Scales:
        """What goes into the maximum, from largest magnitudes as bits: grows with them, the
        non-finite above all others."""

    @abstractmethod
    def all_finite(self, scales: Scales) -> bool: ...

    @abstractmethod
    def factors_and_units(self, scales: Scales) -> tuple[Array, Array]:
        """Per block, what values are multiplied by before rounding, and sums afterwards."""

    @abstractmethod
    def encode(
        self, rows: Float32s, factors: Array, step: int, numbers: Sequence[int], total: Array
    ) -> None:
        """total = the sum of these shards' integers; at least one. It may be the first row."""
