"""The part of a vector that a lossy codec must not touch, beside the part that it may."""

from collections.abc import Sequence
from dataclasses import replace

from collectives.codecs.codec import Codec, Float32s, Group, Vector
from collectives.codecs.int32 import Int32


class WithExactPart(Codec):
    """Values from vector.exact_from on as int32, all before by another codec."""

    def __init__(self, codec: type[Codec], vector: Vector, option: float) -> None:
        super().__init__(vector, option)
        assert vector.exact_from is not None
        self.name, self._end = codec.name, vector.exact_from
        self._lossy = codec(replace(vector, length=self._end, exact_from=None), option)
        self._exact = Int32(Vector(vector.length - self._end, vector.shards))

    def reduce(
        self, group: Group, rows: Float32s, numbers: Sequence[int], step: int, out: Float32s
    ) -> bool:
        end = self._end
        finite = self._lossy.reduce(group, rows[:, :end], numbers, step, out[:end])
        return finite and self._exact.reduce(group, rows[:, end:], numbers, step, out[end:])

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
