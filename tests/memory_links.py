"""Links without sockets: the ranks of a generation are threads that meet in one object.

What is sent is read only when the receiver takes it, as libzmq does with memory it does not copy:
an algorithm that writes too early gives wrong results here. Every frame is counted; at frame number
`cut` a rank dies or the generation is aborted.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

import zmq

from collectives.errors import Aborted, LostPeer
from collectives.frames import Header, Stream

WAIT_S = 20.0


class Died(Exception):
    """This rank's process has ended."""


class Hub:
    """`room`: frames that wait in a link before it is full."""

    def __init__(self, size: int, room: int, cut: int = -1, lose: int | None = None) -> None:
        self.size, self.room, self.cut, self.lose = size, room, cut, lose
        self.changed = threading.Condition()
        self.ways: defaultdict[tuple[int, int], deque[tuple[Header, Any]]] = defaultdict(deque)
        self.sent = 0
        self.aborted = False
        self.dead: set[int] = set()

    def count(self) -> None:
        """One more frame; something may end here."""
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
                links.settle()
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
        self.others = tuple((rank + offset) % hub.size for offset in range(1, hub.size))

    def header(
        self, stream: Stream, sequence: int, kind: int, total: int, *, part: int = 0, chunk: int = 0
    ) -> Header:
        return Header(b"8 bytes!", 1, self.rank, stream, part, sequence, chunk, kind, total)

    def send_nowait(self, to: int, header: Header, payload: Any) -> bool:
        with self.hub.changed:
            self._check()
            way = self.hub.ways[self.rank, to]
            if len(way) >= self.hub.room:
                return False
            self.hub.count()
            self._check()
            way.append((header, payload))
            self.hub.changed.notify_all()
        return True

    def has(self, stream: Stream, sender: int) -> bool:
        return bool(self.hub.ways[sender, self.rank])

    def pop(self, stream: Stream, sender: int) -> tuple[Header, zmq.Frame]:
        with self.hub.changed:
            self._check()
            header, payload = self.hub.ways[sender, self.rank].popleft()
            self.hub.changed.notify_all()
            return header, zmq.Frame(bytes(payload))

    def progress(self, awaited: Collection[int], blocked: Collection[int] = ()) -> None:
        def can_go_on() -> bool:
            arrived = any(self.hub.ways[sender, self.rank] for sender in awaited)
            room = any(len(self.hub.ways[self.rank, to]) < self.hub.room for to in blocked)
            gone = self.hub.dead & {*awaited, *blocked} or self.rank in self.hub.dead
            return arrived or room or bool(gone) or self.hub.aborted

        with self.hub.changed:
            assert self.hub.changed.wait_for(can_go_on, WAIT_S), "nothing happens any more"
            self._check()
            for rank in self.hub.dead & {*awaited, *blocked}:
                if not self.hub.ways[rank, self.rank]:
                    raise LostPeer(rank, "is gone")

    def settle(self) -> None:
        """Until all that was sent has been read, or its receiver is gone."""

        def released() -> bool:
            alive = (to for to in self.others if to not in self.hub.dead)
            return self.hub.aborted or not any(self.hub.ways[self.rank, to] for to in alive)

        with self.hub.changed:
            assert self.hub.changed.wait_for(released, WAIT_S)
            self._check()

    def _check(self) -> None:
        if self.rank in self.hub.dead:
            raise Died
        if self.hub.aborted:
            raise Aborted("the generation is over")
