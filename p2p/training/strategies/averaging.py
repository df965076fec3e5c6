"""The strategies of which every step is one average of the shards' gradients and one update."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from collectives.operations import Group
from p2p.training.layout import Agreed, Float32s
from p2p.training.order import Indices
from p2p.training.state import Unfit
from p2p.training.strategies.strategy import Check, Context, Notice, Result, Results, Shards


class Averaging:
    """A subclass says how the average comes about: `_reduce`."""

    def __init__(self, context: Context) -> None:
        self.context, self.gradients = context, context.gradients
        self._batch: Indices = np.zeros(0, np.int64)
        layout = self.gradients.layout
        self._results = Results(
            lambda: Result(
                *(-1, 1, Agreed(layout, layout.nothing_said())),
                np.zeros(layout.values, np.float32),
            )
        )

    @property
    def retained(self) -> Result | None:
        return self._results.retained

    def enter(self, group: Group, shards: Shards) -> None:
        pass

    def span(self, step: int) -> int:
        return 1

    def compute(
        self, step: int, batches: list[Indices], mine: tuple[int, int], check: Check
    ) -> None:
        (self._batch,) = batches
        self.gradients.compute(step, self._batch, mine, check)

    def exchange(self, group: Group, step: int, mark: bool) -> Result:
        result, said = self.room(step), self.gradients.said
        said[self.gradients.layout.mark] = float(mark)
        group.all_reduce(said, result.agreed.numbers, "max")
        result.agreed.check_samples(step, [self._batch])
        if result.agreed.finite and not self._reduce(group, step, result.values):
            result.agreed.skip()
        return result

    def apply(self, result: Result) -> None:
        if result.agreed.finite:
            self.gradients.update(result.values, result.agreed)
        self._results.retain(result)

    def room(self, step: int) -> Result:
        return self._results.room(step, 1)

    def forget(self) -> None:
        self._results.forget()

    def notices(self) -> list[Notice]:
        return []

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        if tensors:
            raise Unfit(f"this strategy keeps no {min(tensors)}")

    def _reduce(self, group: Group, step: int, out: Float32s) -> bool:
        """out[layout.values] = the average: the sum of all trainers' `gradients.rows`, with the
        same bits on all. False on all when some shard's values are not finite."""
        raise NotImplementedError
