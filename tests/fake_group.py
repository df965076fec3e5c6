"""Groups without sockets: ranks are threads of this process that meet at a barrier."""

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
        self.changed = threading.Condition()
        self._mail: dict[tuple[int, int, int], Queue[bytes]] = {}

    def mail(self, source: int, to: int, tag: int) -> Queue[bytes]:
        with self.changed:
            return self._mail.setdefault((source, to, tag), Queue())

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

    def all_gather_arrays(self, source: Array, out: Array) -> None:
        out.reshape(self.size, -1)[:] = self.hub.exchange(self.rank, source.copy())

    def all_gather(self, payload: bytes) -> list[bytes]:
        return self.hub.exchange(self.rank, bytes(payload))

    def send(self, to: int, payload: memoryview | bytes, tag: int = 0) -> None:
        self.hub.mail(self.rank, to, tag).put(bytes(payload))
        with self.hub.changed:
            self.hub.changed.notify_all()

    def receive(self, source: int, out: memoryview | None = None, tag: int = 0) -> memoryview:
        data = self.hub.mail(source, self.rank, tag).get(timeout=WAIT_S)
        if out is None:
            return memoryview(bytearray(data))  # its receiver may write to it
        out[:] = data
        return out

    def probe(self, tag: int = 0, source: int | None = None) -> int | None:
        others = [rank for rank in range(self.size) if rank != self.rank]
        ranks = others if source is None else [source]
        full = (rank for rank in ranks if not self.hub.mail(rank, self.rank, tag).empty())
        return next(full, None)

    def wait(self, seconds: float | None = None) -> None:
        """May also return early: what came just before would not end it."""
        with self.hub.changed:
            self.hub.changed.wait(0.01)


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
