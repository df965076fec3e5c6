"""int32: block-scaled integers of 32 bits; the same bits in every order and grouping.

4 bytes per value, and 2 per block of 256 for the scales. Error, with e the block's exponent over
all shards (every |value| < 2^e) and b = value_bits(V): V * 2^(e-b-1), and one rounding to float32;
for 12 shards 2^-27 of the block's largest magnitude per shard. See collectives.blockscale.
"""

from collections.abc import Sequence

import numpy as np

from collectives.blockscale import (
    SHARDS_MAX,
    ZERO,
    all_finite,
    block_count,
    block_exponents,
    dequantize,
    quantize,
)
from collectives.codecs.codec import Codec, Float32s, Group, Vector


class Int32(Codec):
    name = "int32"
    summary = "rounded to 2^-27 of the largest of 256 values; the same bits for any membership"
    shards_max = SHARDS_MAX
    order_free = True

    def __init__(self, vector: Vector, option: float = 0.0) -> None:
        super().__init__(vector, option)
        blocks = block_count(vector.length)
        self._exponents = np.empty(blocks, np.int16)
        self._agreed = np.empty(blocks, np.int16)
        self._total = np.empty(vector.length, np.int32)
        self._sums = np.empty(vector.length, np.int32)

    def reduce(
        self, group: Group, rows: Float32s, numbers: Sequence[int], step: int, out: Float32s
    ) -> bool:
        self._exponents.fill(ZERO)
        for row in rows:
            np.maximum(self._exponents, block_exponents(row), out=self._exponents)
        group.all_reduce(self._exponents, self._agreed, "max")
        if not all_finite(self._agreed):
            return False
        if not len(rows):
            self._total.fill(0)
        for number, row in enumerate(rows):
            quantize(row, self._agreed, self.vector.shards, self._total, add=number > 0)
        group.all_reduce(self._total, self._sums, "sum")
        dequantize(self._sums, self._agreed, self.vector.shards, out)
        return True
