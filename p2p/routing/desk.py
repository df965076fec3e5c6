"""A peer as the front of its clients' prompts: carries out what p2p.routing.front decides."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from p2p.errors import Usage
from p2p.find import find_service
from p2p.measure.history import Summary
from p2p.routing import letters
from p2p.routing.front import Front
from p2p.routing.letters import Alive, Ended, Gone, Has, OrderFor, Pieces, Stuck, ToFront, ToHost
from p2p.routing.prompts import Asked, Effect, Target, ToClient, ToReplica, Weights
from p2p.serving.checking import Fields, Malformed
from p2p.serving.protocol import TIMEOUT_MAX_S, TIMEOUT_S, generate
from p2p.wire.network import Route

if TYPE_CHECKING:
    from p2p import requests
    from p2p.peer import Peer

TICK_S = 0.1
ALIVE_EVERY_S = 1.0
TOLD_AT_ONCE_MAX = 64  # parts of answers in one message
REQUEST_CHARACTERS_MAX = 100
STREAMED = frozenset({"generate", "generate_read", "generate_cancel"})


class _Client(NamedTuple):
    """Where the parts of an answer go: `stream` is the id of the request that asked for it."""

    route: Route
    stream: str


class _Remote(NamedTuple):
    """A front elsewhere: its letters come, and are answered, over this connection."""

    route: Route


class RoutingDesk:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.front = Front(peer.identity.incarnation)
        self._ticked_s = self._alive_s = 0.0
        self._effects: deque[Effect] = deque()
        self._told: dict[Route, list[dict[str, Any]]] = {}  # that leaves with what follows
        self._is_at_it = False
        self._services: object = None
        self._members: object = None

    # -- clients ---------------------------------------------------------------------------------

    def on_request(self, asked: requests.Asked) -> None:
        """Raises P2PError."""
        args, now_s = asked.args, self._now_s()
        try:
            if asked.verb == "generate":
                client = _Client(asked.route, asked.id)
                self._do(self.front.ask(self._parsed(args, client), now_s))
                return
            fields = Fields(args)
            request = fields.text("request", REQUEST_CHARACTERS_MAX, least=1)
            if asked.verb == "generate_cancel":
                self._do(self.front.cancel(request, now_s))
                self._peer.mail.reply(asked.route, {"ok": {}, "id": asked.id})
                return
            client = _Client(asked.route, fields.text("stream", REQUEST_CHARACTERS_MAX))
            self._do(self.front.read(client, request, fields.whole("read"), now_s))
        except Malformed as error:
            raise Usage(str(error)) from error

    def _parsed(self, args: Mapping[str, Any], client: _Client) -> Asked:
        """Raises Malformed or P2PError."""
        fields = Fields(args)
        fields.text("request", REQUEST_CHARACTERS_MAX, least=1)
        named = fields.text("service", 300) if fields.has("service") else None
        return Asked(
            generate(fields),
            find_service(self._peer.state, named).id,
            client,
            fields.text("conversation", 100) if fields.has("conversation") else None,
            fields.number("timeout_s", TIMEOUT_S, 0.001, TIMEOUT_MAX_S),
            _weights(fields.map("begun")) if fields.has("begun") else None,
        )

    # -- replicas --------------------------------------------------------------------------------

    def follow(self) -> None:
        """Who can answer, as the log says."""
        state, now_s = self._peer.state, self._now_s()
        if state.services is self._services and state.members is self._members:
            return
        self._services, self._members = state.services, state.members
        there = {name: told for name, told in state.services.items() if not told.is_ended}
        targets = [
            Target(replica.child, replica.peer, service.id, replica.revision, replica.digest)
            for service in there.values()
            for replica in service.replicas
            if replica.peer in state.members and state.members[replica.peer].state == "alive"
        ]
        revisions = {service.id: service.revision.number for service in there.values()}
        self._do(self.front.follow(targets, revisions, now_s))
        for peer in self.front.replicas.peers():
            if peer not in state.members or state.members[peer].state == "dead":
                self._do(self.front.lost_peer(peer, now_s))  # it may hang, and its link stand

    @property
    def entrusted(self) -> frozenset[str]:
        """The peers that answer prompts from here."""
        return frozenset(self.front.replicas.peers())

    def on_letter(self, letter: ToFront) -> None:
        now_s, front = self._now_s(), self.front
        match letter:
            case Pieces():
                front.replicas.heard(letter.child, now_s, letter.prompts)
                effects: list[Effect] = []
                for piece in letter.pieces:
                    told = (piece.request, piece.at, piece.ids, piece.text)
                    effects += front.tokens(letter.child, *told, now_s)
                self._do(effects)
            case Ended():
                front.replicas.heard(letter.child, now_s, letter.prompts)
                self._do(front.done(letter.child, letter.done, now_s))
            case Gone():
                self._do(front.lost(letter.child, now_s, letter.died))
            case Stuck():
                self._do(front.stuck(letter.child, now_s))
            case Has():
                for child, prompts in letter.prompts.items():
                    front.replicas.heard(child, now_s, prompts)
                self._do(front.unknown(letter.unknown, now_s))

    def on_stream(self, body: Mapping[str, Any]) -> None:
        """From the peer of a replica. Raises Malformed."""
        self.on_letter(letters.to_front(body))

    def on_prompt(self, body: Mapping[str, Any], route: Route) -> None:
        """From a front elsewhere, for a replica here. Raises Malformed."""
        self._peer.replicas.on_letter(_Remote(route), letters.to_host(body), self._now_s())

    def say(self, front: Hashable, letter: ToFront) -> None:
        """A replica here said something for that front."""
        if isinstance(front, _Remote):
            self._peer.mail.reply(front.route, letter.to_wire(), "stream")
        else:
            self.on_letter(letter)

    def on_link(self, peer: str, up: bool) -> None:
        changed = self.front.peer_back if up else self.front.lost_peer
        self._do(changed(peer, self._now_s()))

    # -- time ------------------------------------------------------------------------------------

    def on_tick(self, now_s: float) -> None:
        if now_s - self._ticked_s < TICK_S:
            return
        self._ticked_s = now_s
        self._do(self.front.tick(now_s))
        if now_s - self._alive_s >= ALIVE_EVERY_S:
            self._alive_s = now_s
            by_peer: dict[str, list[str]] = {}
            for target, wire_ids in self.front.wire_ids().items():
                by_peer.setdefault(target.peer, []).extend(wire_ids)
            for peer, wire_ids in by_peer.items():
                self._send(peer, Alive(tuple(wire_ids)))

    def figures(self, passed_s: float) -> dict[str, Summary | float]:
        """What is measured of the prompts asked here, since the last time."""
        services = self._peer.state.services.values()
        there = [service.id for service in services if not service.is_ended]
        prompts = Counter(prompt.asked.service for prompt in self.front.prompts.values())
        return self.front.figures.read(there, prompts, self.front.queued(), passed_s)

    # -- inside ----------------------------------------------------------------------------------

    def _do(self, effects: list[Effect]) -> None:
        """In their order, although an order to a replica here may be answered at once."""
        self._effects.extend(effects)
        if self._is_at_it:
            return
        self._is_at_it = True
        try:
            while self._effects:
                self._do_one(self._effects.popleft())
        finally:
            self._is_at_it = False
        self._reply()

    def _do_one(self, effect: Effect) -> None:
        match effect:
            case ToClient():
                self._tell(effect)
            case ToReplica(target, order):
                if not self._send(target.peer, OrderFor(target.child, order)):
                    # Not within this call: the front has more to say of the others first.
                    self._peer.parts.call_later(0.0, partial(self._unreached, target))

    def _unreached(self, target: Target) -> None:
        self._do(self.front.unreached(target.child, self._now_s()))

    def _send(self, peer: str, letter: ToHost) -> bool:
        if peer == self._peer.identity.id:
            self._peer.replicas.on_letter(None, letter, self._now_s())
            return True
        return self._peer.send(peer, "prompt", letter.to_wire())

    def _tell(self, effect: ToClient) -> None:
        assert isinstance(effect.client, _Client)
        route, stream = effect.client
        told = self._named(effect.told)
        if not effect.is_last:
            body: dict[str, Any] = {"part": told}
        else:
            body = told if "error" in told else {"ok": told}
        self._told.setdefault(route, []).append({**body, "id": stream})

    def _reply(self) -> None:
        """A client with many streams gets what one step brings for all of them in one message:
        encoding, sealing and sending it takes more time than all else here."""
        while self._told:
            route, bodies = self._told.popitem()
            for at in range(0, len(bodies), TOLD_AT_ONCE_MAX):
                some = bodies[at : at + TOLD_AT_ONCE_MAX]
                self._peer.mail.reply(route, some[0] if len(some) == 1 else {"several": some})

    def _named(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """With the peer's name, and the model, as people know them."""
        if "peer" not in told:
            return dict(told)
        state = self._peer.state
        member = state.members.get(told["peer"])
        service = state.services.get(told["service"])
        names = {"model": service.name} if service else {}
        return {**told, **names, "peer_name": member.name if member else told["peer"]}

    def _now_s(self) -> float:
        return self._peer.parts.clock.monotonic_s()


def _weights(fields: Fields) -> Weights:
    return Weights(fields.whole("revision"), fields.text("digest", 200))
