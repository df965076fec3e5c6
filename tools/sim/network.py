"""A network that loses, duplicates, reorders, cuts links one way or both, delivers very late.

`Wires` carries bytes between named nodes (hosts and clients); `SimNetwork` is what one process
sees of it: p2p.wire.network.Network.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgpack

from consensus.messages import Message
from p2p.wire.network import Listener, Route
from tools.sim.parameters import MS, SECOND

if TYPE_CHECKING:
    from tools.sim.host import Host
    from tools.sim.world import World

Way = tuple[str, str]  # from one node to another
Deliver = Callable[[bytes, Route | None], None]
HELD_MAX = 2_000
RAFT_KIND = 4  # its place in an envelope


class Wires:
    def __init__(self, world: "World") -> None:
        p = world.parameters
        self.world = world
        self._rng = world.stream("network")
        self._counts = world.counts
        self.delay = p.delay
        self.loss, self.duplicate, self.late = p.loss, p.duplicate, p.late
        self._calm = (self.loss, self.duplicate, self.late)
        self._late_by = p.late_by
        self._last_arrival: dict[Way, int] | None = {} if p.fifo else None
        self._hold_when_cut = p.hold_when_cut
        self._cut: Counter[Way] = Counter()
        self._clogged: dict[Way, int] = {}
        self._held: list[tuple[Way, Callable[[], None]]] = []
        self._died: dict[str, int] = {}
        self._nodes: dict[str, tuple[str, Deliver]] = {}  # by address: name and how to deliver
        self.networks: dict[str, SimNetwork] = {}  # of running processes, by address

    # -- carrying ----------------------------------------------------------------------------------

    def carry(self, way: Way, address: str, data: bytes, route: Route | None, spent: int) -> None:
        """Send after `spent` more microseconds; whoever is at the address then gets it."""
        created, departure = self.world.now, self.world.now + spent

        def deliver() -> None:
            if created <= self._died.get(way[0], -1) < departure:
                return  # the sender died before it had done what came first
            if address in self._nodes:
                self._nodes[address][1](data, route)

        if self._cut and self._cut[way]:
            if self._hold_when_cut and len(self._held) < HELD_MAX:
                self._held.append((way, deliver))
                self._counts["messages held"] += 1
            else:
                self._counts["messages cut"] += 1
            return
        self._counts["messages"] += 1
        if self.loss and self._rng.random() < self.loss:
            self._counts["messages lost"] += 1
            return
        copies = 1
        if self.duplicate and self._rng.random() < self.duplicate:
            copies = 2
            self._counts["messages duplicated"] += 1
        for _ in range(copies):
            self.world.after(self._arrival(way, departure) - created, deliver)

    def _arrival(self, way: Way, departure: int) -> int:
        earliest = max(departure, self._clogged.get(way, 0)) if self._clogged else departure
        if self.late and self._rng.random() < self.late:
            self._counts["messages late"] += 1
            return earliest + int(self._rng.random() * self._late_by)
        arrival = earliest + int(self.delay * (0.5 + self._rng.random()))
        if self._last_arrival is not None:
            arrival = max(arrival, self._last_arrival.get(way, 0))
            self._last_arrival[way] = arrival
        return arrival

    def take_back(self, name: str, now: int) -> None:
        """The node died: what it was still to send never leaves."""
        self._died[name] = now

    def join(self, name: str, address: str, deliver: Deliver) -> None:
        self._nodes[address] = (name, deliver)

    def ask(self, name: str, address: str, data: bytes, answer: Callable[[bytes], None]) -> None:
        """A client's request; it has a socket of its own name, where answers arrive."""
        self._nodes[name] = (name, lambda reply, route: answer(reply))
        if address in self._nodes:
            self.carry((name, self._nodes[address][0]), address, data, name.encode(), 0)

    def reply(self, sender: str, route: Route, data: bytes, spent: int) -> None:
        address = route.decode()
        if address in self._nodes:
            self.carry((sender, self._nodes[address][0]), address, data, None, spent)

    # -- faults ------------------------------------------------------------------------------------

    def cut(self, ways: list[Way]) -> None:
        self._cut.update(ways)
        for network in self.networks.values():
            for link in network.links.values():
                if self._is_cut(network.host.name, link.address) and self._rng.random() < 0.5:
                    network.look_at(link, self._rng.randint(SECOND // 3, 3 * SECOND))

    def mend(self, ways: list[Way]) -> None:
        """Open the ways again; what was held is delivered as by a reconnecting socket."""
        self._cut.subtract(ways)
        self._cut = +self._cut
        released = [deliver for way, deliver in self._held if not self._cut[way]]
        self._held = [(way, deliver) for way, deliver in self._held if self._cut[way]]
        for deliver in released:
            self.world.after(self._rng.randint(0, self.delay), deliver)
        self.reconnect()

    def reconnect(self) -> None:
        for network in self.networks.values():
            for link in network.links.values():
                network.look_at(link, self._rng.randint(20 * MS, 300 * MS))

    def clog(self, way: Way, until: int) -> None:
        """Messages on the way wait until then, and all arrive at once."""
        self._clogged[way] = until

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
        self.reconnect()

    def is_reachable(self, name: str, address: str) -> bool:
        return address in self.networks and not self._is_cut(name, address)

    def _is_cut(self, name: str, address: str) -> bool:
        if not self._cut or address not in self._nodes:
            return False
        other = self._nodes[address][0]
        return self._cut[name, other] > 0 or self._cut[other, name] > 0


class Link:
    __slots__ = ("address", "peer", "up")

    def __init__(self, peer: str, address: str) -> None:
        self.peer = peer
        self.address = address
        self.up = False


class SimNetwork:
    """p2p.wire.network.Network of one process."""

    def __init__(self, wires: Wires, host: "Host") -> None:
        self.wires = wires
        self.host = host
        self.links: dict[str, Link] = {}
        self._closed = False
        self._listener: Listener | None = None

    @property
    def address(self) -> str:
        return self.host.address

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self.wires.join(self.host.name, self.address, self._deliver)
        self.wires.networks[self.address] = self
        self._tell_others(20 * MS, 300 * MS)

    def connect(self, peer: str, address: str) -> None:
        link = self.links.get(peer)
        if link is None or link.address != address:
            link = self.links[peer] = Link(peer, address)
            self.look_at(link, 2 * self.wires.delay)

    def disconnect(self, peer: str) -> None:
        self.links.pop(peer, None)

    def send(self, peer: str, data: bytes) -> bool:
        link = self.links.get(peer)
        if link is None or not link.up:
            return False
        fields = msgpack.unpackb(data)
        if fields[RAFT_KIND] == "raft":
            for item in fields[RAFT_KIND + 1]["messages"]:
                self.host.sends(Message.from_wire(item))
        route = self.address.encode()
        self.wires.carry((self.host.name, peer), link.address, data, route, self.host.spent)
        return True

    def reply(self, route: Route, data: bytes) -> None:
        self.wires.reply(self.host.name, route, data, self.host.spent)

    def close(self, silently: bool = False) -> None:
        """`silently`: the machine lost power, so that nobody is told that connections broke."""
        self._closed = True
        if self.wires.networks.get(self.address) is self:
            del self.wires.networks[self.address]
        if silently:
            self._tell_others(SECOND // 2, 4 * SECOND)
        else:
            self._tell_others(self.wires.delay // 2, 2 * self.wires.delay)

    def break_link(self, peer: str) -> bool:
        """The connection breaks, and is made again soon."""
        link = self.links.get(peer)
        if link is None or not link.up:
            return False
        self._tell(link, False)
        self.look_at(link, self.host.rng.randint(20 * MS, 300 * MS))
        return True

    def look_at(self, link: Link, delay: int) -> None:
        """After the delay, notice whether the other end can be reached."""

        def look() -> None:
            if self._closed or self.links.get(link.peer) is not link:
                return
            reachable = self.wires.is_reachable(self.host.name, link.address)
            if reachable != link.up:
                self._tell(link, reachable)

        self.wires.world.after(delay, look)

    def _tell(self, link: Link, up: bool) -> None:
        link.up = up
        self.wires.world.counts["links up" if up else "links down"] += 1
        self.wires.world.note(self.host.name, f"link to {link.peer} {'up' if up else 'down'}")
        listener = self._listener
        assert listener is not None
        self.host.call(lambda: listener.on_link(link.peer, up))

    def _tell_others(self, soonest: int, latest: int) -> None:
        rng = self.host.rng
        for network in self.wires.networks.values():
            for link in network.links.values():
                if link.address == self.address and network is not self:
                    network.look_at(link, rng.randint(soonest, max(soonest, latest)))

    def _deliver(self, data: bytes, route: Route | None) -> None:
        listener = self._listener
        assert listener is not None
        if not self._closed:
            self.host.call(lambda: listener.on_message(data, route))
