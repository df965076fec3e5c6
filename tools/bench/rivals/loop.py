"""The same task in a plain PyTorch loop: one process, the same shards, gradients accumulated."""

import os
import tempfile
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

from p2p.training.spec import JobSpec
from p2p.training.trainer import NICENESS
from tools.bench import ranks

Spec = dict[str, Any]


class Loop:
    """A context manager: one process of one thread, as nice as our trainers, that waits its turn.

    Each global batch is cut into shards as ours are; their mean losses, weighted by samples, are
    propagated back one after the other into the same gradients. No shuffling, no metrics, no log.
    """

    def __init__(self, spec: Spec, shards: int) -> None:
        self._spec, self._shards = spec, shards

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-loop-"))
        plan = (self._spec, self._shards, folder)
        (self._pipe,) = self._stack.enter_context(ranks.started(_work, [plan]))
        self._pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.send(0)
        self._stack.close()

    def run(self, steps: int) -> float:
        """Seconds that so many steps take."""
        self._pipe.send(steps)
        seconds: float = self._pipe.recv()
        return seconds


def _work(spec: Spec, shards: int, folder: str, parent: Connection) -> None:
    import torch

    from p2p.training import task as tasks
    from p2p.training.order import cut

    os.nice(NICENESS)
    torch.set_num_threads(1)
    job = JobSpec(id="loop", task_class="", **spec)
    task = tasks.create(tasks.load(job, folder), job)
    torch.manual_seed(0)
    model = task.model()
    optimizer = task.optimizer(model)
    data = task.dataset("train")
    size = task.options.global_batch or 1
    starts = range(0, len(data) - size + 1, size)
    parts = [(lo, hi) for lo, hi in cut(size, shards) if hi > lo]
    model.train()
    done = 0
    parent.send("ready")
    while steps := parent.recv():
        started_s = time.perf_counter()
        for _ in range(steps):
            first = starts[done % len(starts)]
            optimizer.zero_grad()
            for lo, hi in parts:
                batch = task.fetch(data, range(first + lo, first + hi))
                loss = task.loss(model, batch)[0]
                torch.autograd.backward(loss * ((hi - lo) / size))
            optimizer.step()
            done += 1
        parent.send(time.perf_counter() - started_s)
