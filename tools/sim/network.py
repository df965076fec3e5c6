"""A network that loses, duplicates, reorders, cuts links one way or both, delivers very late."""

import random
from collections import Counter

from consensus.messages import Message
from tools.sim.parameters import Parameters

Link = tuple[str, str]


class Network:
    """Decides the fate of each message; the world owns the clock and does the delivery."""

    def __init__(self, parameters: Parameters, rng: random.Random, counts: Counter[str]) -> None:
        self._rng = rng
        self._counts = counts
        self.delay = parameters.delay
        self.loss = parameters.loss
        self.duplicate = parameters.duplicate
        self.late = parameters.late
        self.late_by = parameters.late_by
        self._calm = (self.loss, self.duplicate, self.late)
        self._last_arrival: dict[Link, int] | None = {} if parameters.fifo else None
        self._hold_when_cut = parameters.hold_when_cut
        self._cut: Counter[Link] = Counter()
        self._clogged: dict[Link, int] = {}
        self._held: list[Message] = []

    def cut(self, links: list[Link]) -> None:
        self._cut.update(links)

    def mend(self, links: list[Link]) -> list[Message]:
        """Open the links again; returns the messages that a reconnecting socket now delivers."""
        self._cut.subtract(links)
        self._cut = +self._cut
        released = [m for m in self._held if not self._cut[m.sender, m.to]]
        self._held = [m for m in self._held if self._cut[m.sender, m.to]]
        return released

    def is_cut(self, sender: str, to: str) -> bool:
        return self._cut[sender, to] > 0

    def clog(self, link: Link, until: int) -> None:
        """Messages on the link wait until then, and all arrive at once."""
        self._clogged[link] = until

    def storm(self, loss: float, duplicate: float, late: float) -> None:
        self.loss, self.duplicate, self.late = loss, duplicate, late

    def calm(self) -> None:
        self.loss, self.duplicate, self.late = self._calm

    def perfect(self) -> None:
        """The heal phase: nothing is lost or cut any more; what was held is gone."""
        self.loss = self.duplicate = self.late = 0.0
        self._cut.clear()
        self._clogged.clear()
        self._held.clear()

    def arrivals(self, message: Message, now: int) -> list[int]:
        """When copies of the message arrive; empty if it is lost or held."""
        rng = self._rng
        link = (message.sender, message.to)
        if self._cut and self._cut[link]:
            if self._hold_when_cut and len(self._held) < 2_000:
                self._held.append(message)
                self._counts["messages held"] += 1
            else:
                self._counts["messages cut"] += 1
            return []
        if self.loss and rng.random() < self.loss:
            self._counts["messages lost"] += 1
            return []
        copies = 1
        if self.duplicate and rng.random() < self.duplicate:
            copies = 2
            self._counts["messages duplicated"] += 1
        earliest = max(now, self._clogged.get(link, 0)) if self._clogged else now
        return [self._arrival(link, earliest) for _ in range(copies)]

    def _arrival(self, link: Link, earliest: int) -> int:
        if self.late and self._rng.random() < self.late:
            self._counts["messages late"] += 1
            return earliest + int(self._rng.random() * self.late_by)
        arrival = earliest + int(self.delay * (0.5 + self._rng.random()))
        if self._last_arrival is not None:
            arrival = max(arrival, self._last_arrival.get(link, 0))
            self._last_arrival[link] = arrival
        return arrival
