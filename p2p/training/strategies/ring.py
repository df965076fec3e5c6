"""ring: every step's gradients are summed by an all-reduce, as the codec has it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from collectives.codecs import Vector, build
from collectives.codecs.codec import Scales
from collectives.operations import Group
from p2p.training.layout import Float32s
from p2p.training.state import Unfit
from p2p.training.strategies.averaging import Averaging
from p2p.training.strategies.feedback import (
    MEMORY,
    hand_over,
    named_memory,
    restore_memory,
)
from p2p.training.strategies.strategy import Context, Result, Shards


class Ring(Averaging):
    """With an order-free codec the sum has the same bits whoever computes which shard."""

    def __init__(self, context: Context, vector: Vector | None = None, words: int = 0) -> None:
        """`vector` = what is summed, if it is not the gradients."""
        vector = vector or context.gradients.layout.vector(context.schedule.seed)
        super().__init__(context, vector.length, words)
        self._codec = build(context.codec, vector)

    def enter(self, group: Group, shards: Shards) -> None:
        hand_over(self._codec, group, shards)

    def _scales(self) -> Scales:
        return self._codec.scales(self._rows()[0])

    def _reduce(self, group: Group, step: int, settled: Scales, out: Float32s) -> bool:
        rows, numbers = self._rows()
        return self._codec.sum(group, rows, numbers, step, settled, out)

    def _rows(self) -> tuple[Float32s, list[int]]:
        """What this trainer's shards contribute, and which shards these are."""
        return self.gradients.rows, self.gradients.numbers

    def apply(self, result: Result) -> None:
        super().apply(result)
        if result.agreed.finite:
            self._codec.keep(result.values)

    def forget(self) -> None:
        super().forget()
        self._codec.adopt({})  # the errors that it remembers were made on the way to another state

    def tensors(self) -> dict[str, Tensor]:
        return {f"codec.{n}": torch.from_numpy(v) for n, v in self._codec.common().items()}

    def own(self) -> dict[str, Tensor]:
        return named_memory(self._codec)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        ours = self.tensors()
        memory = {n: t for n, t in tensors.items() if n.startswith(MEMORY)}
        if {n: (t.shape, t.dtype) for n, t in ours.items()} != {
            n: (t.shape, t.dtype) for n, t in tensors.items() if n not in memory
        }:
            raise Unfit(f"this strategy with codec {self._codec.name} keeps {sorted(ours)}")
        restore_memory(self._codec, memory)
        for name, tensor in ours.items():
            tensor.copy_(tensors[name])
