"""The same task trained by DistributedDataParallel over gloo, in processes that wait their turn."""

import os
import tempfile
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

from p2p.training.spec import JobSpec
from p2p.training.trainer import NICENESS
from tools.bench import ranks
from tools.bench.ranks import Took

Spec = dict[str, Any]


class Ddp:
    """A context manager: `count` ranks, one thread each, as nice as our trainers.

    Every rank computes its contiguous part of every global batch in one go, as users of DDP do;
    batches in order, epoch after epoch.
    """

    def __init__(self, spec: Spec, count: int, backend: str = "gloo") -> None:
        self._spec, self._count, self._backend = spec, count, backend

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-ddp-"))
        plans = [
            (self._spec, rank, self._count, self._backend, folder) for rank in range(self._count)
        ]
        self._pipes = self._stack.enter_context(ranks.started(_work, plans))
        for pipe in self._pipes:
            pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            pipe.send(0)
        self._stack.close()

    def run(self, steps: int) -> Took:
        """What so many steps take, by the slowest rank."""
        for pipe in self._pipes:
            pipe.send(steps)
        told: list[tuple[float, float]] = [pipe.recv() for pipe in self._pipes]
        return Took(max(seconds for seconds, _ in told), sum(cpu_s for _, cpu_s in told))


def _work(spec: Spec, rank: int, count: int, backend: str, folder: str, parent: Connection) -> None:
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from p2p.training import task as tasks

    os.nice(NICENESS)
    torch.set_num_threads(1)
    job = JobSpec(id="ddp", task_class=spec["task"].rpartition(":")[2], **spec)
    task = tasks.create(tasks.load(job, folder), job)
    torch.manual_seed(0)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/store", rank=rank, world_size=count
    )
    module = task.model()
    optimizer = task.optimizer(module)
    model: torch.nn.Module = DistributedDataParallel(module)
    data = task.dataset("train")
    size = task.options.global_batch or 1
    mine = range(rank * size // count, (rank + 1) * size // count)
    starts = range(0, len(data) - size + 1, size)
    model.train()
    done = 0
    parent.send("ready")
    while steps := parent.recv():
        dist.barrier()
        started_s, used_s = time.perf_counter(), time.process_time()
        for _ in range(steps):
            first = starts[done % len(starts)]
            optimizer.zero_grad()
            batch = task.fetch(data, [first + sample for sample in mine])
            torch.autograd.backward(task.loss(model, batch)[0])
            optimizer.step()
            done += 1
        parent.send((time.perf_counter() - started_s, time.process_time() - used_s))
    dist.destroy_process_group()
