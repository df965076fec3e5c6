"""float32: what everybody else does, to compare with. 4 bytes per value.

Every trainer adds its shards in their order, then the group adds the trainers'. Every addition
rounds, so the bits depend on the membership; they are the same on all members. Error: V roundings,
at most V * 2^-24 of the sum of the magnitudes.
"""

from collections.abc import Sequence

import numpy as np

from collectives.codecs.codec import Codec, Float32s, Group, Scales
from collectives.kernels import largest_bits

INFINITY_BITS = 0x7F800000


class Float32(Codec):
    name = "float32"

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        group.all_reduce(add_up(rows, len(out)), out, "sum")
        return all_finite(out)


def add_up(rows: Float32s, length: int) -> Float32s:
    """The sum of rows[h, length], in their order and in the first one's place; 0 without rows."""
    if not len(rows):
        return np.zeros(length, np.float32)
    total: Float32s = rows[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for row in rows[1:]:
            np.add(total, row, out=total)
    return total


def all_finite(values: Float32s) -> bool:
    largest = np.zeros(1, np.int32)
    largest_bits(values[np.newaxis], max(1, len(values)), largest)
    return bool(largest[0] < INFINITY_BITS)
