"""Processes of one benchmark that know their ranks, each with a pipe to the one that started it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Took:
    """Seconds until all had finished, and of the processors' time by all of them together."""

    seconds: float
    cpu_s: float


@contextmanager
def started(
    work: Callable[..., None], plans: Sequence[tuple[Any, ...]]
) -> Iterator[list[Connection]]:
    """A fresh process per plan does `work(*plan, pipe)`; our ends of the pipes, by rank.

    Afterwards waits for all of them. They die with this process.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for plan in plans:
        ours, theirs = spawn.Pipe()
        worker = spawn.Process(target=work, args=(*plan, theirs), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    yield pipes
    for worker in workers:
        worker.join()


def introduce(pipes: Sequence[Connection]) -> None:
    """Take what every rank tells of itself first, and give all of it to each."""
    told = [pipe.recv() for pipe in pipes]
    for pipe in pipes:
        pipe.send(told)
