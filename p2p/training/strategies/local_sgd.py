"""local-sgd: every shard trains by itself for some steps, then all agree on the average.

The V shards are the workers, whoever computes them: each makes `local_steps` optimizer steps from
the common state, on its slices of so many global batches. What it changed is weighted by its
samples (as in federated averaging: McMahan et al., arXiv 1602.05629) and summed like a gradient; an
outer optimizer, SGD with Nesterov momentum, goes by that sum (DiLoCo: Douillard et al., arXiv
2311.08105). Outer learning rate 1 and momentum 0 is the plain average. With an order-free codec the
bits do not depend on who computes which shard.

The inner optimizer's moments are averaged like the parameters, or start anew in every round. What
is never negative (squares of gradients) is averaged as its square root: block-scaled integers would
make a zero of a small one, and the optimizer divides by it.
"""

import numpy as np
import torch
from torch import Tensor

from collectives.codecs.codec import NO_SCALES, Scales
from collectives.operations import Group
from p2p.training.blame import user_code
from p2p.training.gradients import clip_factor
from p2p.training.layout import Agreed, Float32s, Float64s, views
from p2p.training.order import Indices, fingerprint, shard_of
from p2p.training.strategies.inner import Inner, Moments
from p2p.training.strategies.ring import Ring
from p2p.training.strategies.strategy import Check, Context, Result

VELOCITY = "outer_momentum"


class LocalSgd(Ring):
    """A round covers up to `local_steps` steps and ends with the epoch at the latest.

    A row is [descent of the parameters | changes of the buffers | moments], each times the shard's
    share of the samples. Memory: 4 bytes per value of it and own shard; a copy of the state while
    it computes; 4 bytes per parameter for the outer momentum.
    """

    updates_only_in_apply = False

    def __init__(self, context: Context) -> None:
        layout, options = context.gradients.layout, context.options
        averaged = options["inner_state"] == "average"
        self._moments = Moments(context.gradients) if averaged else None
        tensors, counters, length = self._moments.sizes if self._moments else (0, 0, 0)
        # To be agreed on: is a value of a tensor of moments negative? How far are counters?
        self._signs = slice(layout.agreed, layout.agreed + tensors)
        self._counters = slice(self._signs.stop, self._signs.stop + counters)
        vector = layout.vector(context.schedule.seed, length)
        super().__init__(context, vector, tensors + counters)
        self._inner = slice(layout.values, layout.values + length)
        self._local_steps = int(options["local_steps"])
        self._lr, self._momentum = float(options["outer_lr"]), float(options["outer_momentum"])
        self._velocity = torch.zeros(layout.gradients.stop)
        self._values = torch.zeros(0, vector.length)
        self._numbers: list[int] = []
        self._weights: list[float] = []
        self._saying = np.zeros(0)

    def span(self, step: int) -> int:
        schedule = self.context.schedule
        left = schedule.steps_per_epoch - step % schedule.steps_per_epoch
        return min(self._local_steps, left, schedule.steps_total - step)

    def tensors(self) -> dict[str, Tensor]:
        own = {VELOCITY: self._velocity} if self._momentum else {}
        return {**super().tensors(), **own}

    def compute(
        self, step: int, batches: list[Indices], mine: tuple[int, int], check: Check
    ) -> None:
        lo, hi = mine
        layout = self.gradients.layout
        self._batches, self._numbers, self._weights = batches, [], []
        if len(self._values) != hi - lo:
            self._values = torch.zeros(hi - lo, self._values.shape[1])
        own = np.full(self._counters.stop - layout.agreed, -np.inf)
        said = self._saying = np.concatenate([layout.nothing_said(), own])
        before = Inner(self.gradients)
        for shard in range(lo, hi):
            check()
            indices = shard_of(batches, shard, layout.shards)
            said[layout.counts.start + shard] = len(indices)
            said[layout.prints.start + shard] = fingerprint(indices)
            loss = 0.0
            if len(indices):
                try:
                    loss, metrics = self._train(step, shard, check)
                    said[layout.metrics].reshape(-1, layout.shards)[:, shard] = metrics
                    self._enter(shard, len(indices) / sum(map(len, batches)), before)
                finally:
                    before.put_back()
            said[layout.losses.start + shard] = loss if np.isfinite(loss) else 0.0
            if not np.isfinite(loss):
                said[layout.not_finite] = 1.0
        self.gradients.buffers.check_quiet()

    def _train(self, step: int, shard: int, check: Check) -> tuple[float, Float64s]:
        """One shard's local steps, from the common state. The mean loss and metrics over its
        samples."""
        gradients, state, samples = self.gradients, self.context.state, 0
        totals = np.zeros(1 + len(gradients.layout.metric_names))
        used = self._saying[gradients.layout.used]
        for number, batch in enumerate(self._batches):
            indices = shard_of([batch], shard, gradients.layout.shards)
            if not len(indices):
                state.rates.advance(1)
                continue
            check()
            loss, metrics, found = gradients.shard_gradient(step + number, shard, indices, 1.0)
            factor = clip_factor(found, self.context.task.clip_norm)
            for index, gradient in enumerate(found):
                if gradient is not None:
                    used[index] = 1.0
                    gradient = gradient if factor == 1.0 else gradient * factor
                gradients.parameters[index].grad = gradient
            with user_code(self.context.task.file):
                state.optimizer.step()
            state.rates.advance(1)
            for parameter in gradients.parameters:
                parameter.grad = None
            totals += np.array([loss, *metrics]) * len(indices)
            samples += len(indices)
        means = totals / samples
        return float(means[0]), means[1:]

    def _enter(self, shard: int, weight: float, before: Inner) -> None:
        """Note what this shard changed, and where its optimizer stands."""
        layout, row, said = self.gradients.layout, self._values[len(self._numbers)], self._saying
        integers = before.differences(row[layout.gradients], row[layout.changes])
        np.maximum(said[layout.integers], integers, out=said[layout.integers])
        if self._moments:
            signs, counters = self._moments.read(row[self._inner])
            np.maximum(said[self._signs], signs, out=said[self._signs])
            np.maximum(said[self._counters], counters, out=said[self._counters])
        row.mul_(weight)
        self._numbers.append(shard)
        self._weights.append(weight)

    def _said(self) -> Float64s:
        return self._saying

    def _rows(self) -> tuple[Float32s, list[int]]:
        return self._values[: len(self._numbers)].numpy(), self._numbers

    def _scales(self) -> Scales:
        return NO_SCALES  # what the rows are to be is not known before all agree on it

    def _reduce(self, group: Group, step: int, settled: Scales, out: Float32s) -> bool:
        roots = self._roots(self.room(step).agreed)
        for row, weight in zip(self._values, self._weights, strict=False):
            for root in roots:  # weight * value -> weight * sqrt(value)
                row[self._inner][root].sqrt_().mul_(weight**0.5)
        rows, numbers = self._rows()
        return self._codec.reduce(group, rows, numbers, step, out)

    def _roots(self, agreed: Agreed) -> list[slice]:
        """Which moments are averaged as square roots: the tensors without a negative value."""
        if self._moments is None:
            return []
        signs = agreed.numbers[self._signs]
        return [place for place, sign in zip(self._moments.places, signs, strict=True) if sign <= 0]

    def _update(self, result: Result) -> None:
        gradients, layout, agreed = self.gradients, self.gradients.layout, result.agreed
        flat = torch.from_numpy(result.values)
        descent = flat[layout.gradients]
        if self._momentum:
            self._velocity.mul_(self._momentum).add_(descent)
            descent = descent + self._momentum * self._velocity
        with torch.no_grad():
            shaped = views(self._lr * descent, [p.detach() for p in gradients.parameters])
            for parameter, step in zip(gradients.parameters, shaped, strict=True):
                parameter.sub_(step.to(parameter))
        gradients.change_buffers(result.values[layout.changes], agreed)
        if self._moments is None:
            gradients.state.optimizer.state.clear()
            return
        values = flat[self._inner].clone()
        for root in self._roots(agreed):
            values[root].square_()
        used = (agreed.numbers[layout.used] > 0).tolist()
        self._moments.write(values, agreed.numbers[self._counters].tolist(), used)
