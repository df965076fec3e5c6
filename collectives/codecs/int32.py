"""int32: block-scaled integers of 32 bits; the same bits in every order and grouping.

4 bytes per value, and 2 per block of 256 for the scales. Error, with e the block's exponent over
all shards (every |value| < 2^e) and b = value_bits(V): V * 2^(e-b-1), and one rounding to float32;
for 12 shards 2^-27 of the block's largest magnitude per shard. See collectives.blockscale.
"""

from collections.abc import Sequence

import numpy as np

from collectives import blockscale
from collectives.codecs.block_scaled import BlockScaled, Int32s
from collectives.codecs.codec import Array, Float32s, Scales
from collectives.kernels import round_nearest


class Int32(BlockScaled):
    name = "int32"
    dtype = np.int32

    def scales_of(self, largest: Int32s) -> Scales:
        return blockscale.exponents_of(largest)

    def all_finite(self, scales: Scales) -> bool:
        return blockscale.all_finite(scales)

    def factors_and_units(self, scales: Scales) -> tuple[Array, Array]:
        shards = self.vector.shards
        return blockscale.factors(scales, shards), blockscale.units(scales, shards)

    def encode(
        self, rows: Float32s, factors: Array, step: int, numbers: Sequence[int], total: Array
    ) -> None:
        round_nearest(rows, factors, blockscale.BLOCK, total, False)
