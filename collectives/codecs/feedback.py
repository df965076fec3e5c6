"""Error feedback: what a step's codec left out of a shard's vector is added to its next one.

Seide et al., "1-bit stochastic gradient descent", 2014; Karimireddy et al., "Error feedback fixes
SignSGD", 2019. The memory belongs to the shard, not to the trainer: float32[n] for each, held by
whoever computes the shard, handed over with it when it moves, and zero when its holder died. So
nothing is lost but late, and the sum over steps of the averages, plus what all memories hold, is
the sum of all gradients (to within the rounding of the codec's integers).
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from collectives.codecs.codec import Codec, Float32s, Vector


class Remembering(Codec):
    lossy = True

    def __init__(self, vector: Vector, option: float) -> None:
        super().__init__(vector, option)
        self._memory: dict[int, Float32s] = {}
        self._pending: list[tuple[int, Float32s]] = []  # by shard, of the step under way

    def recall(self, rows: Float32s, numbers: Sequence[int]) -> None:
        """Add to every row what its shard remembers; the sums are there until `keep`."""
        self._pending = list(zip(numbers, rows, strict=True))
        for number, row in self._pending:
            if number in self._memory:
                with np.errstate(over="ignore", invalid="ignore"):
                    row += self._memory[number]

    def keep(self, average: Float32s) -> None:
        for number, row in self._pending:
            if number not in self._memory:
                self._memory[number] = np.empty(self.vector.length, np.float32)
            self.left_out(row, average, self._memory[number])
        self._pending = []

    @abstractmethod
    def left_out(self, row: Float32s, average: Float32s, out: Float32s) -> None:
        """out = what of this row, a shard's vector with its memory, has not gone into `average`."""

    @property
    def remembers(self) -> int:
        return self.vector.length

    def memory(self) -> dict[int, Float32s]:
        return self._memory

    def adopt(self, memory: dict[int, Float32s]) -> None:
        self._memory, self._pending = dict(memory), []
