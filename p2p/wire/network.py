"""What the peer asks of a network, and the in-memory twin that tests run it on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

# Where an answer goes: opaque to everyone but the network that made it.
Route = bytes


class Network(Protocol):
    @property
    def address(self) -> str:
        """HOST:PORT that others reach us at."""

    def connect(self, peer: str, address: str) -> None:
        """Keep a link to `peer`; a new address replaces the old link."""

    def disconnect(self, peer: str) -> None: ...

    def send(self, peer: str, data: bytes) -> bool:
        """Send on the link to `peer`; False if it could not be handed over. Never blocks."""

    def reply(self, route: Route, data: bytes) -> None:
        """Answer whoever a message came from; silently nothing if it is gone."""

    def close(self) -> None: ...


@dataclass
class Listener:
    """What a network calls. `on_link` tells True on a completed handshake, False on loss."""

    on_message: Callable[[bytes, Route | None], None]
    on_link: Callable[[str, bool], None]


@dataclass
class MemoryHub:
    """Joins MemoryNetworks by address; the test decides when messages are delivered.

    Between two addresses that are `cut` (a frozenset of both) everything is lost, silently.
    """

    queue: list[tuple[str, bytes, Route | None]] = field(default_factory=list)
    networks: dict[str, "MemoryNetwork"] = field(default_factory=dict)
    cut: set[frozenset[str]] = field(default_factory=set)
    # By address: who keeps a link to it, and to which peer there.
    linked: dict[str, dict[tuple["MemoryNetwork", str], None]] = field(default_factory=dict)
    _links: list[tuple["MemoryNetwork", str, str, bool]] = field(default_factory=list)

    def deliver(self) -> int:
        """Hand over what is queued now; returns how many messages and link changes there were."""
        links, self._links = self._links, []
        batch, self.queue = self.queue, []
        for network, peer, address, up in links:
            if network.links.get(peer) == address and not network.closed:
                network.listener.on_link(peer, up)
        for address, data, route in batch:
            if address in self.networks:
                self.networks[address].listener.on_message(data, route)
        return len(links) + len(batch)

    def post(self, sender: str, to: str, data: bytes, route: Route | None) -> bool:
        if to not in self.networks:
            return False
        if frozenset({sender, to}) not in self.cut:
            self.queue.append((to, data, route))
        return True

    def tell_link(self, network: "MemoryNetwork", peer: str, address: str, up: bool) -> None:
        self._links.append((network, peer, address, up))

    def tell_all(self, address: str, up: bool) -> None:
        """Every link to `address` comes up or breaks."""
        for network, peer in self.linked.get(address, {}):
            self.tell_link(network, peer, address, up)


class MemoryNetwork:
    """Reached by others from `start` on."""

    def __init__(self, hub: MemoryHub, address: str) -> None:
        self.hub = hub
        self.address = address
        self.links: dict[str, str] = {}
        self.closed = False

    def start(self, listener: Listener) -> None:
        self.listener = listener
        self.hub.networks[self.address] = self
        self.hub.tell_all(self.address, True)

    def connect(self, peer: str, address: str) -> None:
        if self.links.get(peer) == address:
            return
        self.disconnect(peer)
        self.links[peer] = address
        self.hub.linked.setdefault(address, {})[self, peer] = None
        if address in self.hub.networks:
            self.hub.tell_link(self, peer, address, True)

    def disconnect(self, peer: str) -> None:
        address = self.links.pop(peer, None)
        if address is not None:
            self.hub.linked[address].pop((self, peer), None)

    def send(self, peer: str, data: bytes) -> bool:
        address = self.links.get(peer)
        if address is None or self.closed:
            return False
        return self.hub.post(self.address, address, data, self.address.encode())

    def reply(self, route: Route, data: bytes) -> None:
        self.hub.post(self.address, route.decode(), data, None)

    def close(self) -> None:
        self.closed = True
        self.hub.networks.pop(self.address, None)
        for peer, address in self.links.items():
            self.hub.linked[address].pop((self, peer), None)
        self.hub.tell_all(self.address, False)
