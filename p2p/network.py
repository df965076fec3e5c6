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
    """Joins MemoryNetworks by address; the test decides when messages are delivered."""

    queue: list[tuple[str, bytes, Route | None]] = field(default_factory=list)
    networks: dict[str, "MemoryNetwork"] = field(default_factory=dict)

    def deliver(self) -> int:
        """Hand over what is queued now; returns how many messages there were."""
        batch, self.queue = self.queue, []
        for address, data, route in batch:
            if address in self.networks:
                self.networks[address].listener.on_message(data, route)
        return len(batch)


class MemoryNetwork:
    def __init__(self, hub: MemoryHub, address: str, listener: Listener) -> None:
        self.hub = hub
        self.address = address
        self.listener = listener
        self.links: dict[str, str] = {}
        hub.networks[address] = self

    def connect(self, peer: str, address: str) -> None:
        self.links[peer] = address
        self.listener.on_link(peer, address in self.hub.networks)

    def disconnect(self, peer: str) -> None:
        self.links.pop(peer, None)

    def send(self, peer: str, data: bytes) -> bool:
        address = self.links.get(peer)
        if address is None or address not in self.hub.networks:
            return False
        self.hub.queue.append((address, data, self.address.encode()))
        return True

    def reply(self, route: Route, data: bytes) -> None:
        self.hub.queue.append((route.decode(), data, None))

    def close(self) -> None:
        self.hub.networks.pop(self.address, None)
        for network in list(self.hub.networks.values()):
            for peer, address in network.links.items():
                if address == self.address:
                    network.listener.on_link(peer, False)
