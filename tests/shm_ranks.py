"""Ranks that share memory within one process: in turns under a seed, or in threads."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from collectives.call import Call, Kind
from collectives.errors import Aborted, LostPeer
from collectives.reductions import Reduction
from collectives.shm_control import ABANDONED, ControlSegment, Membership, OtherControl, reached
from collectives.shm_memory import RegisteredMemory
from collectives.shm_operations import SharedOperations
from collectives.shm_waits import Wait

Array = np.ndarray[Any, Any]


class Alive:
    """A generation that is over when somebody says so."""

    def __init__(self) -> None:
        self.awaited: frozenset[int] = frozenset()
        self.over = False

    def check(self) -> None:
        if self.over:
            raise Aborted("the generation is over")


class Rank:
    def __init__(self, rank: int, size: int, generation: int = 1) -> None:
        self.memory = RegisteredMemory()
        self.alive = Alive()
        self.member = Membership(b"job-----", generation, rank, size)
        self.control = ControlSegment(self.member)
        self.others: list[OtherControl] = []
        self.source = self.out = np.empty(0)

    def meet(self, ranks: "list[Rank]") -> None:
        self.others = [
            OtherControl(one.member, one.control.invitation) for one in ranks if one is not self
        ]
        shared = (self.member.rank, self.control, self.others, self.memory, self.alive)
        self.operations = SharedOperations(*shared)

    def array(self, count: int, dtype: str, registered: bool) -> Array:
        return self.memory.empty(count, dtype) if registered else np.empty(count, dtype)

    def pair(self, count: int, out: int, *, registered: bool = False) -> tuple[Array, Array]:
        """A source of zeros and an out, of float32."""
        source = self.array(count, "f4", registered)
        source[:] = 0
        return source, self.array(out, "f4", registered)


@contextmanager
def ranks(size: int, generation: int = 1) -> Iterator[list[Rank]]:
    made = [Rank(rank, size, generation) for rank in range(size)]
    for one in made:
        one.meet(made)
    try:
        yield made
    finally:
        for one in made:
            one.operations.end()
            one.memory.forget_all()


class Turns:
    """Ranks work one at a time, in an order that `rng` chooses, as far as their waits allow."""

    def __init__(self, of: list[Rank], rng: random.Random) -> None:
        self.of, self.rng = of, rng
        self.work: dict[int, Iterator[Wait]] = {}
        self.waits: dict[int, Wait] = {}
        self.finished: list[int] = []
        self.failed: dict[int, Aborted] = {}

    def start(self, rank: int, calls: Callable[[int], Iterator[Call]]) -> None:
        def work() -> Iterator[Wait]:
            for call in calls(rank):
                yield from self.of[rank].operations.work(call)

        self.work[rank] = work()

    def may_go_on(self, rank: int) -> bool:
        wait = self.waits.get(rank)
        return wait is None or all(reached(other.word, wait.steps) for other in wait.of)

    def left(self, rank: int) -> list[int]:
        """Whom this rank waits for in vain."""
        wait = self.waits.get(rank, Wait(0, ()))
        words = [(other.rank, other.word) for other in wait.of]
        return [r for r, word in words if word & ABANDONED and not reached(word, wait.steps)]

    def turn(self) -> bool:
        """One rank goes on to its next wait; False when none can."""
        able = [rank for rank in self.work if self.may_go_on(rank) or self.left(rank)]
        if not able:
            return False
        rank = self.rng.choice(able)
        try:
            if lost := self.left(rank):
                raise LostPeer(lost[0], "has left the generation")
            self.waits[rank] = next(self.work[rank])
        except StopIteration:
            del self.work[rank]
            self.finished.append(rank)
        except Aborted as error:
            self.fail(rank, error)
        return True

    def fail(self, rank: int, error: Aborted) -> None:
        """What a group does when its operation fails; then its caller may do anything."""
        self.failed[rank] = error
        self.work.pop(rank).close()  # type: ignore[attr-defined]
        self.of[rank].operations.end()


def expected(kind: Kind, sources: list[Array], op: str, root: int, rank: int) -> Array | None:
    """What `out` must hold; None where it must not have changed."""
    size = len(sources)
    if kind in (Kind.ALL_REDUCE, Kind.REDUCE, Kind.REDUCE_SCATTER):
        out = np.empty_like(sources[0])
        Reduction(op, out.dtype).fold(sources, out)
        if kind is Kind.REDUCE_SCATTER:
            return out.reshape(size, -1)[rank]
        return out if kind is Kind.ALL_REDUCE or rank == root else None
    if kind in (Kind.ALL_GATHER, Kind.GATHER):
        return np.concatenate(sources) if kind is Kind.ALL_GATHER or rank == root else None
    if kind is Kind.SCATTER:
        return sources[root].reshape(size, -1)[rank]
    return sources[root] if rank != root else None
