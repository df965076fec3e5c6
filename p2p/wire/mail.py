"""A peer's envelopes, out and in: counted, and on the way through the drills that are in force."""

from collections.abc import Callable, Iterable
from typing import Any

from p2p.parts import Identity, Parts
from p2p.wire.drills import Drills
from p2p.wire.envelope import Envelope, Malformed, decode, encode
from p2p.wire.network import Route
from p2p.wire.traffic import Traffic


class Mail:
    """`deliver(envelope, route)` takes in what arrives."""

    def __init__(
        self, me: Identity, parts: Parts, deliver: Callable[[Envelope, Route | None], None]
    ) -> None:
        self._me = me
        self._parts = parts
        self._deliver = deliver
        self.drills = Drills()
        self.traffic = Traffic()
        self.dropped = 0  # messages that were malformed, or not for us

    def on_message(self, data: bytes, route: Route | None) -> None:
        self.traffic.received(data)
        try:
            envelope = decode(data, self._me.cluster)
        except Malformed:
            self.dropped += 1
            return

        if not self.drills.running:
            self._deliver(envelope, route)
            return

        def deliver() -> None:
            self._deliver(envelope, route)

        self._through_drills(envelope.sender, self._me.id, envelope.kind, deliver)

    def send(self, peer: str, kind: str, body: dict[str, Any]) -> bool:
        """Whether it could leave; one that a drill lost or holds back counts as sent."""
        return self._send(peer, kind, self._wrapped(kind, body))

    def send_all(self, peers: Iterable[str], kind: str, body: dict[str, Any]) -> None:
        data = self._wrapped(kind, body)
        for peer in peers:
            self._send(peer, kind, data)

    def reply(self, route: Route, body: dict[str, Any], kind: str = "reply") -> None:
        self._parts.network.reply(route, self.traffic.sent(self._wrapped(kind, body)))

    def _send(self, peer: str, kind: str, data: bytes) -> bool:
        if not self.drills.running:
            return self._parts.network.send(peer, self.traffic.sent(data))

        def send() -> None:
            self._parts.network.send(peer, self.traffic.sent(data))

        self._through_drills(self._me.id, peer, kind, send)
        return True

    def _through_drills(
        self, sender: str, receiver: str, kind: str, go_on: Callable[[], None]
    ) -> None:
        """Now, later or never."""
        self.drills = self.drills.at(self._parts.clock.monotonic_s())
        late_s = self.drills.delay_s(sender, receiver, kind, self._parts.rng)
        if late_s:
            self._parts.call_later(late_s, go_on)
        elif late_s is not None:
            go_on()

    def _wrapped(self, kind: str, body: dict[str, Any]) -> bytes:
        me = self._me
        return encode(Envelope(me.cluster, me.id, me.incarnation, kind, body))
