"""The held-out split, cut over the same V slices as training: the same numbers for any trainers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from collectives.operations import Group
from p2p.training.device import moved
from p2p.training.gradients import seed_everything
from p2p.training.order import EVALUATION, Schedule, cut, seed_of
from p2p.training.task import Task

SAMPLES_AT_ONCE = 500  # fixed: kernels may round differently for another batch size


class Evaluation:
    """Mean of every metric over the held-out split. Raises TaskFailed when the task cannot."""

    def __init__(self, task: Task, model: nn.Module, schedule: Schedule) -> None:
        self.task, self.model, self.schedule = task, model, schedule
        self._device = next(model.parameters()).device
        self._test: Any = task.dataset("test") if task.can_evaluate else []
        self.samples = len(self._test)
        self._names = sorted(self._sums(0, min(2, self.samples))) if task.can_evaluate else []

    def run(
        self, group: Group, step: int, mine: tuple[int, int], check: Callable[[], None]
    ) -> dict[str, float]:
        """All trainers call this with the same weights. {} when the task has no evaluate."""
        if not self._names:
            return {}
        said = np.full((self.schedule.shards, len(self._names)), -np.inf)
        for number, (first, last) in enumerate(cut(self.samples, self.schedule.shards)):
            if mine[0] <= number < mine[1]:
                check()
                seed_everything(seed_of(self.schedule.seed, EVALUATION, step, number))
                sums = self._sums(first, last)
                said[number] = [sums.get(name, 0.0) for name in self._names]
        agreed = np.empty_like(said)
        group.all_reduce(said, agreed, "max")
        means = agreed.sum(axis=0) / self.samples
        return dict(zip(self._names, means.tolist(), strict=True))

    def _sums(self, first: int, last: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        self.model.eval()
        try:
            with torch.no_grad():
                for at in range(first, last, SAMPLES_AT_ONCE):
                    wanted = range(at, min(at + SAMPLES_AT_ONCE, last))
                    batch = moved(self.task.fetch(self._test, wanted), self._device)
                    for name, value in self.task.evaluate(self.model, batch, len(wanted)).items():
                        sums[name] = sums.get(name, 0.0) + value
        finally:
            self.model.train()
        return sums
