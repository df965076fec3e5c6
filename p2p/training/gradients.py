"""One step's arithmetic on one trainer: gradients of its shards, and the update by their average.

Every shard's gradient is computed by itself and weighted by its share of the batch's samples, so
that a short last batch is averaged right. How the shards of all trainers are summed is up to the
strategy (p2p.training.strategies).
"""

import hashlib
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from p2p.training.blame import REMEDY, TaskFailed, user_code
from p2p.training.device import moved, rows_from
from p2p.training.layout import Agreed, BufferWatch, Layout, views
from p2p.training.order import SHARD, UPDATE, Indices, Schedule, cut, fingerprint
from p2p.training.seeds import StepSeeds
from p2p.training.state import TrainingState, raw
from p2p.training.task import Task

# Room for shards that went to others is kept for when they come back, up to so much of it: to touch
# fresh memory takes longer than all that a step does with it, and everybody waits for that.
ROWS_KEPT_TIMES = 2
CLIP_EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


def seed_everything(seed: int) -> None:
    """Seed every generator a task may draw from.

    Not torch.manual_seed: without a GPU it formats and keeps a traceback per call (0.4 ms, leaks).
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for generator in torch.cuda.default_generators:
            generator.manual_seed(seed)


class Gradients:
    """Computes shards and updates the model. Memory: 4 bytes per value and own shard (at most twice
    that), and 4 more.

    After `compute`: `rows` has one row of values per own shard that has samples, `numbers` says
    which shards these are, and `said` is what this trainer has to say on the step.
    """

    def __init__(self, task: Task, state: TrainingState, schedule: Schedule, train: Any) -> None:
        self.task, self.state, self.schedule, self.train = task, state, schedule, train
        self.parameters = [p for p in state.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise TaskFailed("the model has no trainable parameter")
        self._shapes: list[Tensor] = [p.detach() for p in self.parameters]
        self.device = self.parameters[0].device
        self.carrier = rows_from(self.device)
        self._shard_seeds = StepSeeds(schedule.seed, SHARD, schedule.shards)
        self._update_seeds = StepSeeds(schedule.seed, UPDATE)
        watch = BufferWatch(state.model)
        state.model.train()
        size = min(max(1, schedule.global_batch // schedule.shards), schedule.train_samples)
        self._metric_names: list[str] | None = None
        self._first_shard = np.arange(size, dtype=np.int64)
        found = self.shard_gradient(0, 0, self._first_shard, 1.0)[2]  # leaves no trace
        self.buffers = watch.undo()
        # What this machine makes of the first samples, parameter by parameter.
        self.probe = [_digest(gradient) for gradient in found]
        names: list[str] = self._metric_names or []
        self.layout = Layout(self.parameters, self.buffers, schedule.shards, names)
        self._rows = torch.zeros(0, self.layout.values)
        self._shaped: list[list[Tensor]] = []  # every row's gradients as the parameters' shapes
        self.numbers: list[int] = []
        self.said = self.layout.nothing_said()

    def check_repeatable(self) -> None:
        """Raises TaskFailed, naming the parameter, unless the first shard gives the same bits when
        it is computed again. Nothing else may have been computed or applied before."""
        watch = BufferWatch(self.state.model)
        again = self.shard_gradient(0, 0, self._first_shard, 1.0)[2]
        watch.undo()
        for parameter, digest, gradient in zip(self.parameters, self.probe, again, strict=True):
            if digest != _digest(gradient):
                raise TaskFailed(
                    "the task is not deterministic: the same samples give another gradient of "
                    f"{self.state.names[parameter]} when they are computed again; {REMEDY}"
                )

    @property
    def rows(self) -> npt.NDArray[np.float32]:
        """float32[own shards with samples, layout.values], each weighted by its samples' share."""
        return self._rows[: len(self.numbers)].numpy()

    def compute(
        self, step: int, used: Indices, mine: tuple[int, int], check: Callable[[], None]
    ) -> None:
        """Gradients of shards [lo, hi) of this step. `check` may raise between two shards."""
        lo, hi = mine
        layout = self.layout
        if not hi - lo <= len(self._rows) <= ROWS_KEPT_TIMES * (hi - lo):
            self._rows = self.carrier.room(hi - lo, layout.values)
            self._rows[:, layout.gradients.stop :] = 0.0  # the rest is filled anyway
            self._shaped = [views(row[layout.gradients], self._shapes) for row in self._rows]
        self.numbers, self.said = [], layout.nothing_said()
        base = [b.clone() for b in (*self.buffers.floats, *self.buffers.integers)]
        parts = [used[first:last] for first, last in cut(len(used), layout.shards)[lo:hi]]
        losses = [0.0] * len(parts)
        for at, indices in enumerate(parts):
            check()
            if len(indices):
                loss = self._fill_row(step, lo + at, indices, len(used), base)
                losses[at] = loss if math.isfinite(loss) else 0.0
                if not math.isfinite(loss):
                    self.said[layout.not_finite] = 1.0
        self.said[layout.counts][lo:hi] = [len(indices) for indices in parts]
        self.said[layout.prints][lo:hi] = [fingerprint(indices) for indices in parts]
        self.said[layout.losses][lo:hi] = losses
        self.carrier.settle()

    def update(self, average: npt.NDArray[np.float32], agreed: Agreed, step: int) -> None:
        """One optimizer step by float32[layout.values], and the buffers' changes. Never half done:
        nothing here waits or checks for anything."""
        seed_everything(self._update_seeds.of(step))  # some optimizers add noise
        flat = torch.from_numpy(average)[self.layout.gradients]
        self.task.figures.gradient_norm(flat)
        factor = clip_factor([flat], self.task.clip_norm)
        self.optimize(average, agreed, range(len(self.parameters)), factor)
        self.change_buffers(average[self.layout.changes], agreed)

    def optimize(
        self,
        average: npt.NDArray[np.float32],
        agreed: Agreed,
        only: Collection[int],
        factor: float = 1.0,
    ) -> None:
        """One optimizer step of these parameters (by number) by the average times `factor`; the
        others stay as they are."""
        flat = torch.from_numpy(average)[self.layout.gradients].to(self.device)
        gradients = views(flat, self._shapes)
        used = (agreed.numbers[self.layout.used] > 0).tolist()
        for number in only:
            if used[number]:
                parameter = self.parameters[number]
                gradient = gradients[number] if factor == 1.0 else gradients[number] * factor
                parameter.grad = gradient.to(parameter.dtype)
        with user_code(self.task.file):
            self.state.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None

    def change_buffers(self, changes: npt.NDArray[np.float32], agreed: Agreed) -> None:
        """Add what the batch's samples changed in the buffers, averaged over them."""
        if not self.buffers.floats and not self.buffers.integers:
            return
        with torch.no_grad():
            floats = views(torch.from_numpy(changes), self.buffers.floats)
            for buffer, change in zip(self.buffers.floats, floats, strict=True):
                buffer.add_(change.to(buffer.device))
            whole = torch.from_numpy(agreed.numbers[self.layout.integers])
            for buffer, change in zip(
                self.buffers.integers, views(whole, self.buffers.integers), strict=True
            ):
                buffer.add_(change.to(buffer))

    def _fill_row(
        self, step: int, shard: int, indices: Indices, batch: int, base: list[Tensor]
    ) -> float:
        layout, at = self.layout, len(self.numbers)
        weight = len(indices) / batch
        loss, metrics, gradients = self.shard_gradient(step, shard, indices, weight)
        if metrics:
            self.said[layout.metrics].reshape(-1, layout.shards)[:, shard] = metrics
        self._note_used(gradients)
        pairs = zip(gradients, self._shapes, strict=True)
        found = [torch.zeros_like(p) if g is None else g for g, p in pairs]
        self.carrier.fill(self._shaped[at], found)
        if base:
            changes = self._rows[at, layout.changes]
            self._take_changes(changes, base)
            changes.mul_(weight)
        self.buffers.check_quiet()
        self.numbers.append(shard)
        return loss

    def shard_gradient(
        self, step: int, shard: int, indices: Indices, weight: float
    ) -> tuple[float, list[float], tuple[Tensor | None, ...]]:
        """The shard's mean loss and metrics, and its gradient times `weight`.

        With `accumulate` the shard is computed in so many parts, one after the other, which needs
        less memory; their gradients are added up in this order by whoever computes the shard.
        """
        seed_everything(self._shard_seeds.of(step, shard))
        if self.task.accumulate == 1:
            return self._backward(indices, weight)
        parts = cut(len(indices), min(self.task.accumulate, len(indices)))
        total, sums, gradients = 0.0, [0.0] * len(self._metric_names or ()), None
        for first, last in parts:
            share = (last - first) / len(indices)
            loss, metrics, found = self._backward(indices[first:last], weight * share)
            total += loss * share if len(parts) > 1 else loss
            shares = [value * share for value in metrics] if len(parts) > 1 else metrics
            sums = [a + b for a, b in zip(sums, shares, strict=True)] if sums else shares
            gradients = found if gradients is None else _added(gradients, found)
        assert gradients is not None
        return total, sums, gradients

    def _backward(
        self, indices: Indices, weight: float
    ) -> tuple[float, list[float], tuple[Tensor | None, ...]]:
        batch = moved(self.task.fetch(self.train, indices), self.device)
        loss, metrics = self.task.loss(self.state.model, batch)
        with user_code(self.task.file):
            start = torch.full_like(loss, weight)  # free: it starts the backward
            gradients = torch.autograd.grad(loss, self.parameters, start, allow_unused=True)
        dense = tuple(g.to_dense() if g is not None and g.is_sparse else g for g in gradients)
        return loss.item(), self._measured(metrics), dense

    def _measured(self, metrics: dict[str, float]) -> list[float]:
        """Sorted by name, and inf for what is not finite: so it stays through a MAX."""
        names = sorted(metrics)
        if self._metric_names is None:
            self._metric_names = names
        if names != self._metric_names:
            raise TaskFailed(
                f"loss() measured {_listed(metrics)}, at first {_listed(self._metric_names)}: "
                "return the same metrics every time"
            )
        values = [metrics[name] for name in self._metric_names]
        return [value if math.isfinite(value) else math.inf for value in values]

    def _note_used(self, gradients: tuple[Tensor | None, ...]) -> None:
        used = self.said[self.layout.used]
        if any(gradient is None for gradient in gradients):
            used[[gradient is not None for gradient in gradients]] = 1.0
        else:
            used[:] = 1.0

    def _take_changes(self, out: Tensor, base: list[Tensor]) -> None:
        """Move what the forward pass did to the buffers into `out`, and put the buffers back."""
        floats, integers = self.buffers.floats, self.buffers.integers
        before = base[: len(floats)]
        with torch.no_grad():
            for buffer, old, change in zip(floats, before, views(out, floats), strict=True):
                change.copy_(buffer - old)
                buffer.copy_(old)
            whole = torch.from_numpy(self.said[self.layout.integers])
            befores = base[len(floats) :]
            for buffer, old, change in zip(integers, befores, views(whole, integers), strict=True):
                change.copy_(buffer - old)
                buffer.copy_(old)


def clip_factor(gradients: Sequence[Tensor | None], clip_norm: float | None) -> float:
    """What to multiply by so that their common Euclidean norm is `clip_norm` at most, as
    torch.nn.utils.clip_grad_norm_ does; summed in float64, the same everywhere for the same bits.
    """
    if clip_norm is None:
        return 1.0
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients if g is not None]
    norm = math.sqrt(sum(float(one) ** 2 for one in norms))
    return min(1.0, clip_norm / (norm + CLIP_EPSILON))


def _digest(gradient: Tensor | None) -> bytes:
    return b"" if gradient is None else hashlib.sha256(raw(gradient)).digest()[:8]


def _added(
    one: tuple[Tensor | None, ...], other: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    return tuple(
        b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
