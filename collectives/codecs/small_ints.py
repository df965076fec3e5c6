"""int16 and int8: block-scaled like int32, but few bits, so rounded up or down by chance.

With w bits and V shards, every shard's values have L = (2^(w-1) - 1) // V levels to each side, so
that no sum of them overflows w bits on any hop. A value between two levels becomes the upper one
with a probability that makes the mean right (stochastic rounding: Gupta et al., "Deep learning with
limited numerical precision", 2015; Alistarh et al., "QSGD", 2017). The chance is a hash of (seed,
step, shard, position): no state, and the same whoever computes the shard.

w/8 bytes per value, and 2 per block of 256. A block's scale S is its largest magnitude over all
shards, rounded up to 8 significant bits (so that 2 bytes carry it), at least 2^-90. The error of
the sum is at most V * S * (1/L + 2^-21), its mean over seeds at most V * S * (2^-17 / L + 2^-21),
and its standard deviation at most sqrt(V)/2 * S/L; shards weighted alike have values of 1/V of the
sum's size, so that is about sqrt(V) / 2^w of the largest gradient in the block.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from collectives.blockscale import BLOCK
from collectives.codecs.block_scaled import BlockScaled, Int32s
from collectives.codecs.codec import Array, Float32s, Scales, Vector
from collectives.kernels import round_stochastic
from collectives.kernels.portable import FRACTION_BITS, Key

NON_FINITE = 0x7FFF
_ABOVE_ALL = 0x7F80  # the scale 2^128, of which there is no float32
_SCALE_MIN = 2.0**-90  # far below any gradient that counts, and its factor is a float32
_INFINITY = np.int32(0x7F800000)


class SmallInts(BlockScaled):
    bits: ClassVar[int]
    lossy = True

    def __init__(self, vector: Vector, option: float = 0.0) -> None:
        super().__init__(vector, option)
        self.levels = levels(self.bits, vector.shards)

    def scales_of(self, largest: Int32s) -> Scales:
        rounded_up = (np.minimum(largest, _INFINITY - 1).astype(np.int64) + 0xFFFF) >> 16
        return np.where(largest >= _INFINITY, NON_FINITE, rounded_up).astype(np.int16)

    def all_finite(self, scales: Scales) -> bool:
        return bool((scales < NON_FINITE).all())

    def factors_and_units(self, scales: Scales) -> tuple[Array, Array]:
        size = np.maximum(magnitudes(scales), _SCALE_MIN)
        exact = self.levels * 2.0**FRACTION_BITS / size
        factors = exact.astype(np.float32)
        # Towards zero, so that no value can round to more than `levels`.
        factors = np.where(factors > exact, np.nextafter(factors, np.float32(0)), factors)
        units = np.minimum(size / self.levels, np.finfo(np.float32).max).astype(np.float32)
        return factors, units

    def encode(
        self, rows: Float32s, factors: Array, step: int, numbers: Sequence[int], total: Array
    ) -> None:
        for at, (number, row) in enumerate(zip(numbers, rows, strict=True)):
            chances = key(self.vector.seed, step, number)
            round_stochastic(row, factors, BLOCK, chances, total, at > 0)


def levels(bits: int, shards: int) -> int:
    """How many values to each side of zero a shard has."""
    return int((2 ** (bits - 1) - 1) // shards)


def magnitudes(scales: Scales) -> Array:
    """float64: what the scales stand for."""
    finite = np.minimum(scales, _ABOVE_ALL - 1).astype(np.int32) << 16
    return np.where(scales == _ABOVE_ALL, 2.0**128, finite.view(np.float32).astype(np.float64))


def key(seed: int, step: int, shard: int) -> Key:
    """Two words that differ between any two of these."""
    text = struct.pack("<qqq", seed, step, shard)
    first, second = struct.unpack("<II", hashlib.blake2b(text, digest_size=8).digest())
    return first, second
