"""One step's arithmetic on one trainer: gradients of its shards, then the update all agreed on.

Every shard's gradient is computed by itself, weighted by its share of the batch's samples, rounded
to integers (collectives.blockscale) and summed; so the sum has the same bits whoever computes which
shard, and a short last batch is averaged right.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from collectives.blockscale import all_finite, block_exponents, dequantize, quantize
from collectives.operations import Group
from p2p.training.blame import TaskFailed, user_code
from p2p.training.layout import BufferWatch, Float64s, Layout, views
from p2p.training.order import SHARD, Indices, Schedule, cut, fingerprint, seed_of
from p2p.training.state import TrainingState
from p2p.training.task import Task


@dataclass(eq=False)
class Result:
    """What one step's exchange gave, enough to apply it anywhere; the same bytes for everybody.

    `step` counts from 0. `sums` means nothing when the step is not finite.
    """

    step: int
    agreed: Float64s
    sums: npt.NDArray[np.int32]


def seed_everything(seed: int) -> None:
    """Seed every generator a task may draw from.

    Not torch.manual_seed: without a GPU it formats and keeps a traceback per call (0.4 ms, leaks).
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


class Gradients:
    """Computes shards and applies results. Memory: 4 bytes per value and own shard, and 24 more."""

    def __init__(self, task: Task, state: TrainingState, schedule: Schedule, train: Any) -> None:
        self.task, self.state, self.schedule, self.train = task, state, schedule, train
        self.parameters = [p for p in state.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise TaskFailed("the model has no trainable parameter")
        self._shapes: list[Tensor] = [p.detach() for p in self.parameters]
        watch = BufferWatch(state.model)
        state.model.train()
        size = min(max(1, schedule.global_batch // schedule.shards), schedule.train_samples)
        self._shard_gradient(0, 0, np.arange(size, dtype=np.int64), 1.0)  # leaves no trace
        self.buffers = watch.undo()
        self.layout = Layout(self.parameters, self.buffers, schedule.shards)
        self._average = torch.zeros(self.layout.values)
        self._average_np = self._average.numpy()
        self._gradient_views = views(self._average[self.layout.gradients], self._shapes)
        self._change_views = views(self._average[self.layout.changes], self.buffers.floats)
        self._rows = torch.zeros(0, self.layout.values)
        self._filled = 0
        self._said = self.layout.nothing_said()
        self._total = np.zeros(self.layout.values, np.int32)
        # The last applied step is kept for those behind, so the next one gets other arrays.
        self.retained: Result | None = None
        self._free = [self._empty_result(), self._empty_result()]

    @property
    def next_result(self) -> Result:
        """Where the next step's result goes; `apply` keeps it and frees the one before."""
        return self._free[-1]

    def _empty_result(self) -> Result:
        return Result(-1, self.layout.nothing_said(), np.zeros(self.layout.values, np.int32))

    def compute(
        self, step: int, used: Indices, mine: tuple[int, int], check: Callable[[], None]
    ) -> None:
        """Gradients of shards [lo, hi) of this step. `check` may raise between two shards."""
        lo, hi = mine
        layout = self.layout
        if len(self._rows) != hi - lo:
            self._rows = torch.zeros(hi - lo, layout.values)
        self._said = self.layout.nothing_said()
        self._filled = 0
        base = [b.clone() for b in (*self.buffers.floats, *self.buffers.integers)]
        for shard, (first, last) in enumerate(cut(len(used), self.schedule.shards)):
            if not lo <= shard < hi:
                continue
            check()
            indices = used[first:last]
            self._said[layout.counts.start + shard] = len(indices)
            self._said[layout.prints.start + shard] = fingerprint(indices)
            self._said[layout.losses.start + shard] = 0.0
            if len(indices):
                loss = self._fill_row(step, shard, indices, len(used), base)
                self._said[layout.losses.start + shard] = loss if np.isfinite(loss) else 0.0
                if not np.isfinite(loss):
                    self._said[layout.not_finite] = 1.0
        if self._filled:
            exponents = block_exponents(self._rows[: self._filled].numpy().reshape(-1))
            self._said[layout.exponents] = exponents.reshape(self._filled, -1).max(axis=0)

    def exchange(self, group: Group, step: int, used: Indices, mark: bool) -> Result:
        """Agree on the step's result. Raises Aborted; then nothing has changed."""
        layout, result = self.layout, self.next_result
        result.step = step
        self._said[layout.mark] = float(mark)
        group.all_reduce(self._said, result.agreed, "max")
        self._check_samples(result, used)
        if self.is_finite(result):
            self._total.fill(0)
            exponents = result.agreed[layout.exponents]
            for row in self._rows[: self._filled].numpy():
                quantize(row, exponents, self.schedule.shards, self._total, add=True)
            group.all_reduce(self._total, result.sums, "sum")
        return result

    def is_finite(self, result: Result) -> bool:
        """False = some shard had NaN or Inf: the step's update is skipped, by everybody."""
        flagged = result.agreed[self.layout.not_finite] > 0
        return not flagged and all_finite(result.agreed[self.layout.exponents])

    def is_mark(self, result: Result) -> bool:
        return bool(result.agreed[self.layout.mark] > 0)

    def mean_loss(self, result: Result) -> float:
        """The batch's loss: the mean over its samples."""
        counts = result.agreed[self.layout.counts]
        return float((result.agreed[self.layout.losses] * counts).sum() / counts.sum())

    def apply(self, result: Result) -> None:
        """Update the model by a finite result and keep it for those behind. Never half done:
        nothing here waits or checks for anything."""
        if self.is_finite(result):
            self._update(result)
        assert result is self._free[-1]
        self._free.pop()
        self.forget()
        self.retained = result

    def forget(self) -> None:
        """The model was replaced: no result leads to it any more."""
        if self.retained is not None:
            self._free.append(self.retained)
        self.retained = None

    def _update(self, result: Result) -> None:
        layout = self.layout
        exponents = result.agreed[layout.exponents]
        dequantize(result.sums, exponents, self.schedule.shards, self._average_np)
        used = result.agreed[layout.used] > 0
        for parameter, gradient, in_use in zip(
            self.parameters, self._gradient_views, used.tolist(), strict=True
        ):
            parameter.grad = gradient.to(parameter.dtype) if in_use else None
        with user_code(self.task.file):
            self.state.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        with torch.no_grad():
            for buffer, change in zip(self.buffers.floats, self._change_views, strict=True):
                buffer.add_(change)
            whole = torch.from_numpy(result.agreed[layout.integers])
            changes = views(whole, self.buffers.integers)
            for buffer, change in zip(self.buffers.integers, changes, strict=True):
                buffer.add_(change.to(buffer.dtype))

    def _fill_row(
        self, step: int, shard: int, indices: Indices, batch: int, base: list[Tensor]
    ) -> float:
        layout, row = self.layout, self._rows[self._filled]
        weight = len(indices) / batch
        loss, gradients = self._shard_gradient(step, shard, indices, weight)
        self._note_used(gradients)
        flat = [
            self._shapes[i].new_zeros(self._shapes[i].numel()) if g is None else g.reshape(-1)
            for i, g in enumerate(gradients)
        ]
        torch.cat(flat, out=row[layout.gradients])
        if base:
            self._take_changes(row[layout.changes], base)
            row[layout.changes].mul_(weight)
        self.buffers.check_quiet()
        self._filled += 1
        return loss

    def _shard_gradient(
        self, step: int, shard: int, indices: Indices, weight: float
    ) -> tuple[float, tuple[Tensor | None, ...]]:
        """The shard's mean loss, and its gradient times `weight` (free: it starts the backward)."""
        seed_everything(seed_of(self.schedule.seed, SHARD, step, shard))
        batch = self.task.fetch(self.train, indices)
        loss = self.task.loss(self.state.model, batch)
        with user_code(self.task.file):
            start = torch.full_like(loss, weight)
            gradients = torch.autograd.grad(loss, self.parameters, start, allow_unused=True)
        dense = tuple(g.to_dense() if g is not None and g.is_sparse else g for g in gradients)
        return loss.item(), dense

    def _note_used(self, gradients: tuple[Tensor | None, ...]) -> None:
        used = self._said[self.layout.used]
        used[[g is not None for g in gradients]] = 1.0

    def _take_changes(self, out: Tensor, base: list[Tensor]) -> None:
        """Move what the forward pass did to the buffers into `out`, and put the buffers back."""
        floats, integers = self.buffers.floats, self.buffers.integers
        before = base[: len(floats)]
        with torch.no_grad():
            for buffer, old, change in zip(floats, before, views(out, floats), strict=True):
                change.copy_(buffer - old)
                buffer.copy_(old)
            whole = torch.from_numpy(self._said[self.layout.integers])
            befores = base[len(floats) :]
            for buffer, old, change in zip(integers, befores, views(whole, integers), strict=True):
                change.copy_(buffer - old)
                buffer.copy_(old)

    def _check_samples(self, result: Result, used: Indices) -> None:
        slices = cut(len(used), self.schedule.shards)
        counts = [hi - lo for lo, hi in slices]
        prints = [fingerprint(used[lo:hi]) for lo, hi in slices]
        agreed = result.agreed
        if (
            agreed[self.layout.counts].tolist() != counts
            or agreed[self.layout.prints].tolist() != prints
        ):
            raise RuntimeError(
                f"step {result.step} was computed from other samples than agreed: "
                "do all peers have the same data and version?"
            )
