"""The strategies of which every step is one average of the shards' gradients and one update."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from collectives.codecs.codec import NO_SCALES, Scales
from collectives.maxima import maxima
from collectives.operations import Group
from p2p.training.layout import Agreed, Float32s, Float64s, Wish
from p2p.training.order import Indices
from p2p.training.state import Unfit
from p2p.training.strategies.strategy import Check, Context, Notice, Result, Results, Shards


class Averaging:
    """A subclass says how the average comes about: `_reduce`."""

    spreads = False
    asynchronous = False
    updates_only_in_apply = True
    pending: int | None = None

    def __init__(self, context: Context, values: int | None = None, words: int = 0) -> None:
        """`values` = the length of a result's, if they are not the average; `words` = how many
        numbers of its own a subclass has to say, behind the others."""
        self.context, self.gradients = context, context.gradients
        self._batches: list[Indices] = []
        self._make_results(self.gradients.layout.values if values is None else values, words)

    def _make_results(self, values: int, words: int) -> None:
        layout = self.gradients.layout
        self._results = Results(
            lambda: Result(
                *(-1, 1, Agreed(layout, np.zeros(layout.agreed + words))),
                np.zeros(values, np.float32),
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
        self._batches = batches
        self.gradients.compute(step, batches[0], mine, check)

    def exchange(self, group: Group, step: int, wish: Wish) -> Result:
        result, said = self.room(step), self._said()
        said[self.gradients.layout.mark] = float(wish)
        scales = self._scales()
        settled = np.empty_like(scales)
        maxima(group, (said, scales), (result.agreed.numbers, settled))
        result.agreed.check_samples(step, self._batches)
        if result.agreed.finite and not self._reduce(group, step, settled, result.values):
            result.agreed.skip()
        return result

    def apply(self, result: Result) -> None:
        if result.agreed.finite:
            self._update(result)
            self.context.state.rates.advance(result.span)
        self._results.retain(result)

    def room(self, step: int) -> Result:
        return self._results.room(step, self.span(step))

    def forget(self) -> None:
        self._results.forget()

    def notices(self) -> list[Notice]:
        return []

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def own(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        if tensors:
            raise Unfit(f"this strategy keeps no {min(tensors)}")

    def _said(self) -> Float64s:
        """What this trainer has to say on the round, laid out by the layout; settled by MAX."""
        return self.gradients.said

    def _update(self, result: Result) -> None:
        """Become the state after a finite round."""
        self.gradients.update(result.values, result.agreed, result.step)

    def _scales(self) -> Scales:
        """What `_reduce` needs the MAX of over all trainers: settled with what they say."""
        return NO_SCALES

    def _reduce(self, group: Group, step: int, settled: Scales, out: Float32s) -> bool:
        """out[layout.values] = the average: the sum of all trainers' `gradients.rows`, with the
        same bits on all. False on all when some shard's values are not finite."""
        raise NotImplementedError
