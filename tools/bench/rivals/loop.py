"""The same task in a plain PyTorch loop: one process, the same shards, gradients accumulated."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

from p2p.training.order import cut
from p2p.training.spec import JobSpec
from p2p.training.trainer import NICENESS
from tools.bench import ranks
from tools.bench.ranks import Took

SAMPLES_AT_ONCE = 500  # of an evaluation, as ours

Spec = dict[str, Any]


class Loop:
    """A context manager: one process of one thread, as nice as our trainers, that waits its turn.

    Every epoch has an order of its own. Each global batch is cut into shards as ours are; their
    mean losses, weighted by samples, are propagated back one after the other into the same
    gradients. After every epoch the held-out split is evaluated, in the slices that ours has. No
    log, no hash, nothing repeatable.
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

    def run(self, steps: int) -> Took:
        """What so many steps take."""
        self._pipe.send(steps)
        return Took(*self._pipe.recv())


def _work(spec: Spec, shards: int, folder: str, parent: Connection) -> None:
    import torch

    from p2p.training import task as tasks

    os.nice(NICENESS)
    torch.set_num_threads(1)
    job = JobSpec(id="loop", task_class=spec["task"].rpartition(":")[2], **spec)
    task = tasks.create(tasks.load(job, folder), job)
    torch.manual_seed(0)
    model = task.model()
    optimizer = task.optimizer(model)
    data, size = task.dataset("train"), task.options.global_batch or 1
    held_out = task.dataset("test") if task.can_evaluate else []

    def steps_for_ever() -> Iterator[None]:
        while True:
            order = torch.randperm(len(data)).numpy()
            for first in range(0, len(order), size):
                used = order[first : first + size]
                optimizer.zero_grad()
                for lo, hi in cut(len(used), shards):
                    if hi > lo:
                        loss = task.loss(model, task.fetch(data, used[lo:hi]))[0]
                        torch.autograd.backward(loss * ((hi - lo) / len(used)))
                optimizer.step()
                yield
            model.eval()
            with torch.no_grad():
                for lo, hi in cut(len(held_out), shards):
                    for at in range(lo, hi, SAMPLES_AT_ONCE):
                        wanted = range(at, min(at + SAMPLES_AT_ONCE, hi))
                        task.evaluate(model, task.fetch(held_out, wanted), len(wanted))
            model.train()

    model.train()
    done = steps_for_ever()
    parent.send("ready")
    while steps := parent.recv():
        started_s, used_s = time.perf_counter(), time.process_time()
        for _ in range(steps):
            next(done)
        parent.send((time.perf_counter() - started_s, time.process_time() - used_s))
