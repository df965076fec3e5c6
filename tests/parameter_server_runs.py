"""Runs by a parameter server in this process, and groups whose operations end in the midst."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import Empty
from typing import cast

from collectives.errors import Aborted
from collectives.operations import Group
from collectives.reductions import Array
from p2p.training.catchup import CaughtUp, catch_up
from p2p.training.layout import Wish
from p2p.training.run import Run
from tests.fake_group import FakeGroup, Hub, groups, together

SHARDS = 7


def cuts(members: int) -> list[tuple[int, int]]:
    return [(SHARDS * r // members, SHARDS * (r + 1) // members) for r in range(members)]


def begin(runs: list[Run]) -> list[CaughtUp]:
    """A new generation of these."""
    made = groups(len(runs))
    outcomes = together([partial(catch_up, made[r], run) for r, run in enumerate(runs)])
    for run in runs:
        run.remember()
    together([partial(r.strategy.enter, made[i], cuts(len(runs))) for i, r in enumerate(runs)])
    return outcomes


def step(runs: list[Run], count: int = 1, apply_on: set[int] | None = None) -> None:
    """`count` steps; the last one is only applied by the ranks in `apply_on`."""
    for number in range(count):
        made = groups(len(runs))
        at = runs[0].position.step
        for rank, run in enumerate(runs):
            run.strategy.compute(at, run.batches(), cuts(len(runs))[rank], lambda: None)
        calls = [
            partial(run.strategy.exchange, made[r], at, Wish.NOTHING) for r, run in enumerate(runs)
        ]
        last = apply_on is not None and number == count - 1
        for rank, result in enumerate(together(calls)):
            if not last or rank in (apply_on or ()):
                runs[rank].apply(result)


def settled(runs: list[Run]) -> str:
    made = groups(len(runs))
    together([partial(run.settle, made[rank]) for rank, run in enumerate(runs)])
    hashes = {run.hash() for run in runs}
    assert len(hashes) == 1
    return hashes.pop()


class EndingHub(Hub):
    """Every operation raises Aborted from the one numbered `until` on, on all ranks."""

    def __init__(self, size: int, until: int) -> None:
        super().__init__(size)
        self.left = until
        self.lock = threading.Lock()

    def count(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left < 0:
                self.barrier.abort()
                raise Aborted("over")


class EndingGroup(FakeGroup):
    hub: EndingHub

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None:
        self.hub.count()
        with aborted_if_broken():
            super().all_reduce(source, out, op, number)

    def all_gather_arrays(self, source: Array, out: Array) -> None:
        self.hub.count()
        with aborted_if_broken():
            super().all_gather_arrays(source, out)

    def all_gather(self, payload: bytes) -> list[bytes]:
        self.hub.count()
        with aborted_if_broken():
            return super().all_gather(payload)

    def send(self, to: int, payload: memoryview | bytes, tag: int = 0) -> None:
        self.hub.count()
        super().send(to, payload, tag)

    def receive(self, source: int, out: memoryview | None = None, tag: int = 0) -> memoryview:
        self.hub.count()
        mail = self.hub.mail(source, self.rank, tag)
        while True:
            try:
                return memoryview(bytearray(mail.get(timeout=0.002)))
            except Empty:
                if self.hub.barrier.broken:
                    raise Aborted("over") from None

    def wait(self, seconds: float | None = None) -> None:
        if self.hub.barrier.broken:
            raise Aborted("over")
        super().wait(seconds)


@contextmanager
def aborted_if_broken() -> Iterator[None]:
    try:
        yield
    except threading.BrokenBarrierError:
        raise Aborted("over") from None


def ending_groups(size: int, operations: int) -> list[Group]:
    hub = EndingHub(size, operations)
    return [cast(Group, EndingGroup(hub, rank)) for rank in range(size)]
