"""Wires without sockets: the ranks of a generation are threads that meet in one object.

What is sent is read only when it goes out, and comes in two parts now and then: an algorithm that
writes too early, or reads too early, gives wrong results here. Every record is counted; at number
`cut` a rank dies or the generation is aborted.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import zmq

from collectives.errors import Aborted, LostPeer
from collectives.records import Record

WAIT_S = 20.0


class Died(Exception):
    """This rank's process has ended."""


class Hub:
    """`room`: records that wait in a wire before it is full."""

    def __init__(self, size: int, room: int, cut: int = -1, lose: int | None = None) -> None:
        self.size, self.room, self.cut, self.lose = size, room, cut, lose
        self.changed = threading.Condition()
        self.ways: defaultdict[tuple[int, int], deque[tuple[Record, bytes]]] = defaultdict(deque)
        self.sent = 0
        self.aborted = False
        self.dead: set[int] = set()

    def count(self) -> None:
        """One more record; something may end here."""
        if self.sent == self.cut:
            if self.lose is None:
                self.aborted = True
            else:
                self.dead.add(self.lose)
        self.sent += 1

    def run(self, act: Callable[["MemoryLinks"], Any]) -> list[Any]:
        """What `act` returned or raised, by rank. A rank that raised leaves, and the others see."""
        results: list[Any] = [None] * self.size

        def one(rank: int) -> None:
            links = MemoryLinks(self, rank)
            try:
                results[rank] = act(links)
            except (Aborted, Died) as error:
                results[rank] = error
                with self.changed:
                    self.dead.add(rank)
                    self.changed.notify_all()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a rank waits for ever"
        return results


class MemoryLinks:
    """What Exchange needs of collectives.links.Links."""

    one_host = False

    def __init__(self, hub: Hub, rank: int) -> None:
        self.hub, self.rank, self.size = hub, rank, hub.size
        self.others = tuple(other for other in range(hub.size) if other != rank)

    def connect(self, _: Any) -> "dict[int, MemoryWire]":
        return {other: MemoryWire(self, other) for other in self.others}

    def progress(self, awaited: Collection[int], files: Sequence[tuple[int, int]]) -> None:
        """A file is another rank's number."""

        def ready(other: int, events: int) -> bool:
            came = events & zmq.POLLIN and self.hub.ways[other, self.rank]
            room = events & zmq.POLLOUT and len(self.hub.ways[self.rank, other]) < self.hub.room
            return bool(came or room or other in self.hub.dead)

        def can_go_on() -> bool:
            ended = self.hub.aborted or self.rank in self.hub.dead
            return ended or any(ready(*file) for file in files)

        assert not awaited
        with self.hub.changed:
            assert self.hub.changed.wait_for(can_go_on, WAIT_S), "nothing happens any more"
            self.check()

    def check(self) -> None:
        if self.rank in self.hub.dead:
            raise Died
        if self.hub.aborted:
            raise Aborted("the generation is over")


class MemoryWire:
    """What Exchange needs of collectives.wire.Wire."""

    def __init__(self, links: MemoryLinks, rank: int) -> None:
        self.links, self.hub, self.rank = links, links.hub, rank
        self.out = self.hub.ways[links.rank, rank]
        self.into = self.hub.ways[rank, links.rank]
        self.pending: tuple[Record, Any] | None = None
        self.asked = 0

    def fileno(self) -> int:
        return self.rank

    @property
    def busy(self) -> bool:
        return self.pending is not None

    def begin(self, record: Record, payload: memoryview) -> None:
        assert not self.busy
        assert record.length == len(payload)
        self.pending = record, payload

    def flush(self) -> bool:
        if self.pending is None:
            return True
        with self.hub.changed:
            self.links.check()
            if self.rank in self.hub.dead:
                raise LostPeer(self.rank, "is gone")
            if len(self.out) >= self.hub.room:
                return False
            self.hub.count()
            self.links.check()
            record, payload = self.pending
            self.out.append((record, bytes(payload)))
            self.hub.changed.notify_all()
        self.pending = None
        return True

    def next(self) -> Record | None:
        with self.hub.changed:
            if self.into:
                return self.into[0][0]
            if self.rank in self.hub.dead:
                raise LostPeer(self.rank, "is gone")
        return None

    def take(self, into: memoryview) -> bool:
        """Every third time only half of it is there."""
        self.asked += 1
        with self.hub.changed:
            payload = self.into[0][1]
            if self.asked % 3 == 0:
                into[: len(payload) // 2] = payload[: len(payload) // 2]
                return False
            into[:] = payload
            self.into.popleft()
            self.hub.changed.notify_all()
        return True

    def end(self) -> None:
        self.pending = None
