"""bf16: float32's range with 8 bits of precision, 2 bytes per value on every hop.

Every trainer adds its shards in float32 and rounds once; every member adds up one segment of the
vector in float32, in the order of ranks, rounds once and gives it to all. So there are two
roundings however many trainers there are (a ring that adds in bfloat16 has one per hop), for the
same bytes: 2 (N-1)/N of the vector. All members get the same bits, which depend on the membership.
Error: at most 2^-7 of the sum of the shards' magnitudes, and 2^-133 per trainer.

Magnitudes above the largest bfloat16 count as infinite.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collectives.codecs.codec import Codec, Float32s, Group, Vector
from collectives.codecs.float32 import add_up, all_finite
from collectives.kernels import from_bfloat16, to_bfloat16
from collectives.ring import segment


class Bf16(Codec):
    name = "bf16"
    summary = "bfloat16: half the bytes; the bits depend on the membership"
    lossy = True

    def __init__(self, vector: Vector, option: float = 0.0) -> None:
        super().__init__(vector, option)
        self._total = np.empty(vector.length, np.float32)
        self._given = np.empty(vector.length, np.uint16)
        self._result = np.empty(vector.length, np.uint16)

    def reduce(
        self, group: Group, rows: Float32s, numbers: Sequence[int], step: int, out: Float32s
    ) -> bool:
        add_up(rows, self._total)
        to_bfloat16(self._total, self._given)
        spans = [slice(*segment(r, group.size, len(out))) for r in range(group.size)]
        others = [(group.rank + hop) % group.size for hop in range(1, group.size)]
        for rank in others:
            group.send(rank, _raw(self._given[spans[rank]]))
        self._add_segment(group, spans[group.rank])
        mine = _raw(self._result[spans[group.rank]])
        for rank in others:
            group.send(rank, mine)
        for rank in reversed(others):
            group.receive(rank, _raw(self._result[spans[rank]]))
        from_bfloat16(self._result, out, False)
        return all_finite(out)

    def _add_segment(self, group: Group, span: slice) -> None:
        """result[span] = what all members gave for it."""
        total = self._total[span]
        arrived = np.empty(len(total), np.uint16)
        total.fill(0)
        for rank in range(group.size):
            if rank != group.rank:
                group.receive(rank, _raw(arrived))
            from_bfloat16(self._given[span] if rank == group.rank else arrived, total, True)
        to_bfloat16(total, self._result[span])


def _raw(values: NDArray[np.uint16]) -> memoryview:
    return memoryview(values.view(np.uint8))  # type: ignore[arg-type]
