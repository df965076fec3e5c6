"""bf16: float32's range with 8 bits of precision, 2 bytes per value on every hop.

Every trainer adds its shards in float32 and rounds once; the group adds what the trainers gave in
float32, in the order of ranks, and rounds once. So there are two roundings however many trainers
there are (a ring that adds in bfloat16 has one per hop), and all members get the same bits, which
depend on the membership. Error: at most 2^-7 of the sum of the shards' magnitudes, and 2^-133 per
trainer.

Magnitudes above the largest bfloat16 count as infinite.
"""

from collections.abc import Sequence

import numpy as np

from collectives.codecs.codec import Codec, Float32s, Group, Scales, Vector
from collectives.codecs.float32 import add_up, all_finite
from collectives.kernels import from_bfloat16, to_bfloat16
from collectives.reductions import BFLOAT16


class Bf16(Codec):
    name = "bf16"
    lossy = True

    def __init__(self, vector: Vector, option: float = 0.0) -> None:
        super().__init__(vector, option)
        self._given = np.empty(vector.length, np.uint16)
        self._result = np.empty(vector.length, np.uint16)

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        to_bfloat16(add_up(rows, len(out)), self._given)
        group.all_reduce(self._given, self._result, "sum", BFLOAT16)
        from_bfloat16(self._result, out, False)
        return all_finite(out)
