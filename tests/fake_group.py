"""Groups without sockets: ranks are threads of this process that meet at a barrier."""

import itertools
import threading
from collections.abc import Callable, Sequence
from queue import Queue
from typing import Any, cast

import numpy as np

from collectives.operations import Group
from collectives.reductions import Array, Reduction

WAIT_S = 20.0


class Hub:
    """What the fake groups of one generation share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.laid: list[Any] = [None] * size
        # All made now: two threads that ask a defaultdict at once can get two queues.
        pairs = itertools.permutations(range(size), 2)
        self.mail: dict[tuple[int, int], Queue[bytes]] = {pair: Queue() for pair in pairs}

    def exchange(self, rank: int, thing: Any) -> list[Any]:
        self.laid[rank] = thing
        self.barrier.wait(WAIT_S)
        everything = list(self.laid)
        self.barrier.wait(WAIT_S)
        return everything


class FakeGroup:
    generation = 1

    def __init__(self, hub: Hub, rank: int) -> None:
        self.hub, self.rank, self.size = hub, rank, hub.size

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None:
        parts = self.hub.exchange(self.rank, source.copy())
        # Whole numbers in an order of its own per rank; floats in one, as every Group does.
        first = self.rank if np.issubdtype(source.dtype, np.integer) and not number else 0
        Reduction(op, source.dtype, number).fold([*parts[first:], *parts[:first]], out)

    def all_gather(self, payload: bytes) -> list[bytes]:
        return self.hub.exchange(self.rank, bytes(payload))

    def send(self, to: int, payload: memoryview | bytes) -> None:
        self.hub.mail[self.rank, to].put(bytes(payload))

    def receive(self, source: int, out: memoryview | None = None) -> memoryview:
        data = self.hub.mail[source, self.rank].get(timeout=WAIT_S)
        if out is None:
            return memoryview(data)
        out[:] = data
        return out


def groups(size: int) -> list[Group]:
    hub = Hub(size)
    return [cast(Group, FakeGroup(hub, rank)) for rank in range(size)]


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each in its own thread; their results, or the first error."""
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def one(index: int) -> None:
        try:
            results[index] = calls[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    if errors:
        raise errors[0]
    return results
