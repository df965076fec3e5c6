"""The part of a vector that a lossy codec must not touch, beside the part that it may."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from collectives.blockscale import block_count
from collectives.codecs.codec import Codec, Float32s, Group, Scales, Vector
from collectives.codecs.int32 import Int32


class WithExactPart(Codec):
    """Values from vector.exact_from on as int32, all before by another codec."""

    def __init__(self, codec: type[Codec], vector: Vector, option: float) -> None:
        super().__init__(vector, option)
        assert vector.exact_from is not None
        self.name, self._end = codec.name, vector.exact_from
        self._lossy = codec(replace(vector, length=self._end, exact_from=None), option)
        self._exact = Int32(Vector(vector.length - self._end, vector.shards))

    def scales(self, rows: Float32s) -> Scales:
        end = self._end
        return np.concatenate(
            [self._lossy.scales(rows[:, :end]), self._exact.scales(rows[:, end:])]
        )

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        end = self._end
        lossy, exact = np.split(settled, [len(settled) - block_count(len(out) - end)])
        finite = self._lossy.sum(group, rows[:, :end], numbers, step, lossy, out[:end])
        return finite and self._exact.sum(group, rows[:, end:], numbers, step, exact, out[end:])

    def keep(self, average: Float32s) -> None:
        self._lossy.keep(average[: self._end])

    @property
    def remembers(self) -> int:
        return self._lossy.remembers

    def memory(self) -> dict[int, Float32s]:
        return self._lossy.memory()

    def adopt(self, memory: dict[int, Float32s]) -> None:
        self._lossy.adopt(memory)

    def common(self) -> dict[str, Float32s]:
        return self._lossy.common()
