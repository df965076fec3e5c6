"""Which replica answers which prompt, and what its client is told. Pure: no clock, no sockets.

The peer that a client asks is the front of its prompts: it keeps each with the ids that were
passed on, so that another replica can go on from there when one is lost; what a replica generates
depends on nothing else. Of one prompt one attempt counts at a time, and the attempts are numbered:
what an earlier one still says is ignored.
"""

import heapq
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from p2p.measure.serving import ServingFigures
from p2p.routing.book import Book
from p2p.routing.choice import Replicas
from p2p.routing.endings import answered, overdue
from p2p.routing.prompts import Asked, Effect, Prompt, Target, ToClient, ToReplica
from p2p.serving.messages import Done

UNREAD_MAX = 256  # ids on their way to a client before its prompt is held
SILENT_CLIENT_S = 15.0
SILENT_PEER_S = 6.0  # a replica of whose peer nothing is heard for so long is left
TELL_EVERY_S = 2.0  # a client whose prompt waits
LOOKS_MAX = 300  # at prompts, in one tick
RETRY_S = 0.5  # until a replica that could not be reached is tried again
STUCK_S = 2.5  # its peer says again and again that it is
SLEPT_S = 1.0  # since the last tick: this peer did not run, and so heard nobody
USUAL_S = 2.0  # per prompt, until some were answered


@dataclass
class Front:
    """Every call says what is to be sent. `name`: no other front has it, nor had one here before;
    a replica may still be at an attempt of a front that died.
    """

    name: str = ""
    replicas: Replicas = field(default_factory=Replicas)
    usual_s: float = USUAL_S
    figures: ServingFigures = field(default_factory=ServingFigures)
    # A heap: when to look at which request. By name: who gave up shall take no memory until then.
    _due: list[tuple[float, int, str]] = field(default_factory=list)
    _attempts: int = 0
    _looks: int = 0
    _ticked_s: float | None = None

    def __post_init__(self) -> None:
        self.book = Book(self.replicas)

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        return self.book.prompts

    # -- of clients ------------------------------------------------------------------------------

    def ask(self, asked: Asked, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        known = self.prompts.get(asked.order.request)
        if known is not None:
            if known.asked.client != asked.client:
                told = {"error": "this request was asked again from elsewhere", "exit_code": 1}
                effects.append(known.told(told, is_last=True))
            effects += self.book.drop(known)
        made = self.book.enter(asked, now_s, self.usual_s)
        if isinstance(made, ToClient):
            return [*effects, made]
        self._look_later(made, now_s)
        return effects + self._dispatch(asked.service, now_s)

    def read(self, client: Hashable, request: str, read: int, now_s: float) -> list[Effect]:
        """The client lives, and has so many of the ids."""
        prompt = self.book.of(client, request)
        if prompt is None:
            told = {"error": "this peer does not have that request", "exit_code": 1, "lost": True}
            return [ToClient(client, request, told, is_last=True)]
        prompt.heard_s = now_s
        before, prompt.read = prompt.read, max(prompt.read, min(read, len(prompt.ids)))
        if prompt.held_s is None:
            return []
        if len(prompt.ids) - prompt.read <= UNREAD_MAX // 2:
            return self.book.requeue(prompt, now_s) + self._dispatch(prompt.asked.service, now_s)
        prompt.held_s = now_s if prompt.read > before else prompt.held_s
        return []

    def cancel(self, request: str, now_s: float) -> list[Effect]:
        prompt = self.prompts.get(request)
        if prompt is None:
            return []
        told = {"reason": "cancelled", "text": "", "seconds": now_s - prompt.asked_s}
        return [*self.book.drop(prompt), prompt.told(told, is_last=True)]

    # -- of replicas -----------------------------------------------------------------------------

    def follow(
        self, targets: Iterable[Target], revisions: Mapping[str, int], now_s: float
    ) -> list[Effect]:
        """These can answer; `revisions`: what is served, and its newest weights. Who cannot any
        more goes on with what it has until it is lost.
        """
        self.replicas.follow(targets)
        return self.book.follow(revisions) + self._dispatch_all(now_s)

    def tokens(
        self, child: str, wire_id: str, at: int, ids: tuple[int, ...], text: str, now_s: float
    ) -> list[Effect]:
        """`at`: how many ids of the answer came before, those that were sent to it among them."""
        prompt = self.replicas.attempt(child, wire_id)
        if prompt is None or prompt.target is None:
            return []
        service = prompt.asked.service
        if at != len(prompt.ids):  # something was lost on the way
            return self.book.leave(prompt, now_s) + self._dispatch(service, now_s)
        if not prompt.ids:
            self.figures.first_token(service, now_s - prompt.asked_s)
        self.figures.tokens(service, len(ids))
        told: dict[str, Any] = {"kind": "tokens", "at": at, "ids": list(ids), "text": text}
        if prompt.needs is None:
            told["begun"] = prompt.target.weights._asdict()
        self.book.push(prompt, ids)
        self.replicas.heard(child, now_s)
        prompt.told_s = now_s
        if len(prompt.ids) - prompt.read <= UNREAD_MAX:
            return [prompt.told(told)]
        return [prompt.told(told), *self.book.hold(prompt, now_s), *self._dispatch(service, now_s)]

    def done(self, child: str, done: Done, now_s: float) -> list[Effect]:
        prompt = self.replicas.attempt(child, done.request)
        if prompt is None or prompt.target is None:
            return []
        service = prompt.asked.service
        if done.retry_s is not None or done.reason == "cancelled":  # it has too many, or ends
            self.replicas.avoid(child, now_s + (done.retry_s or 0.0))
            return self.book.requeue(prompt, now_s) + self._dispatch(service, now_s)
        if done.reason != "error" and done.completion_tokens != len(prompt.ids):
            return self.book.leave(prompt, now_s) + self._dispatch(service, now_s)
        if done.reason != "error":
            took_s = now_s - prompt.asked_s
            self.usual_s += 0.1 * (took_s - self.usual_s)
            self.figures.answered(service, took_s)
        last = prompt.told(answered(prompt, prompt.target, done, now_s), is_last=True)
        self.book.drop(prompt)  # its replica knows
        return [last, *self._dispatch(service, now_s)]

    def lost(self, child: str, now_s: float, died: bool = True) -> list[Effect]:
        """It ended: others go on with what it had. `died`: nobody wanted that."""
        self.replicas.ended(child)
        effects = self.book.blame(child) if died else []
        effects += self.book.leave_all(child, now_s)
        return effects + self._dispatch_all(now_s)

    def stuck(self, child: str, now_s: float) -> list[Effect]:
        """Its peer does not hear of it, and says so until it does or ends it. What others can
        answer goes there.
        """
        self.replicas.avoid(child, now_s + STUCK_S)
        effects: list[Effect] = []
        for prompt in reversed(self.replicas.at(child)):
            if any(target.child != child for target in self.replicas.could(prompt)):
                prompt.left.add(child)
                effects += self.book.leave(prompt, now_s)
        return effects + self._dispatch_all(now_s)

    def unknown(self, wire_ids: Iterable[str], now_s: float) -> list[Effect]:
        """A peer does not have these of the prompts that it should have: they never came, or their
        end was lost.
        """
        effects: list[Effect] = []
        for wire_id in wire_ids:
            prompt = self.prompts.get(wire_id.split(".", 2)[-1])
            if prompt is not None and prompt.target is not None and prompt.wire_id == wire_id:
                effects += self.book.leave(prompt, now_s)
        return effects + self._dispatch_all(now_s)

    def lost_peer(self, peer: str, now_s: float) -> list[Effect]:
        """It cannot be reached: others go on with what its replicas had."""
        effects: list[Effect] = []
        for child in self.replicas.of_peer(peer):
            effects += self.book.leave_all(child, now_s)
            self.replicas.avoid(child, now_s + RETRY_S)
        return effects + self._dispatch_all(now_s)

    def unreached(self, child: str, now_s: float) -> list[Effect]:
        """What was to be sent to it did not leave."""
        self.replicas.avoid(child, now_s + RETRY_S)
        effects: list[Effect] = []
        for prompt in reversed(self.replicas.at(child)):
            effects += self.book.requeue(prompt, now_s)
        return effects + self._dispatch_all(now_s)

    def peer_back(self, peer: str, now_s: float) -> list[Effect]:
        self.replicas.come_back(peer)
        return self._dispatch_all(now_s)

    # -- of time ---------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Effect]:
        """Looks at what is due and no more: its cost does not grow with what waits."""
        effects = self._look_at_replicas(now_s)
        looks = 0
        while looks < LOOKS_MAX and self._due and self._due[0][0] <= now_s:
            _, look, request = heapq.heappop(self._due)
            prompt = self.prompts.get(request)
            if prompt is not None and prompt.look == look:  # not one that was asked again since
                looks += 1
                effects += self._look_at(prompt, now_s)
        return effects + self._dispatch_all(now_s)

    def queued(self) -> dict[str, int]:
        """How many prompts wait here, by service."""
        return {service: len(queue) for service, queue in self.book.queues.items() if queue}

    def wire_ids(self) -> dict[Target, list[str]]:
        """What every replica should be at, of this front."""
        return {target: list(load.at) for target, load in self.replicas.entrusted()}

    # -- inside ----------------------------------------------------------------------------------

    def _look_later(self, prompt: Prompt, now_s: float) -> None:
        times = (
            prompt.told_s + TELL_EVERY_S,
            prompt.asked_s + prompt.asked.timeout_s,
            prompt.heard_s + SILENT_CLIENT_S,
        )
        self._looks += 1
        prompt.look = self._looks
        heapq.heappush(self._due, (max(now_s, min(times)), prompt.look, prompt.request))

    def _look_at(self, prompt: Prompt, now_s: float) -> list[Effect]:
        if now_s - prompt.heard_s >= SILENT_CLIENT_S:
            return self.book.drop(prompt)
        why = overdue(prompt, self.replicas, now_s)
        if why is not None:
            return self.book.fail(prompt, why)
        effects: list[Effect] = []
        if now_s - prompt.told_s >= TELL_EVERY_S:
            prompt.told_s = now_s
            queue = self.book.queues.get(prompt.asked.service)
            waits = queue is not None and prompt.target is None
            ahead = queue.ahead(prompt, now_s) if queue and waits else 0
            effects.append(prompt.told({"kind": "waiting", "ahead": ahead}))
        self._look_later(prompt, now_s)
        return effects

    def _look_at_replicas(self, now_s: float) -> list[Effect]:
        slept_s = 0.0 if self._ticked_s is None else now_s - self._ticked_s
        self._ticked_s = now_s
        effects: list[Effect] = []
        for target, load in self.replicas.entrusted():
            load.heard_s += slept_s if slept_s >= SLEPT_S else 0.0
            if now_s - load.heard_s >= SILENT_PEER_S:
                effects += self.book.leave_all(target.child, now_s)
                self.replicas.avoid(target.child, now_s + SILENT_PEER_S)
        return effects

    def _dispatch_all(self, now_s: float) -> list[Effect]:
        services = list(self.book.queues)
        return [effect for service in services for effect in self._dispatch(service, now_s)]

    def _dispatch(self, service: str, now_s: float) -> list[Effect]:
        return list(self._dispatched(service, now_s))

    def _dispatched(self, service: str, now_s: float) -> Iterator[Effect]:
        queue = self.book.queues.get(service)
        if queue is None:
            return
        for prompt in queue.heads():
            target = self.replicas.choose(prompt, now_s)
            if target is None:
                continue  # nor for those behind it
            queue.remove(prompt)
            self._attempts += 1
            wire_id = f"{self.name}.{self._attempts}.{prompt.request}"
            self.replicas.give(prompt, target, wire_id, now_s)
            prompt.told_s = now_s
            order = replace(prompt.asked.order, request=wire_id, sent=tuple(prompt.ids))
            yield ToReplica(target, order)
            told = {"kind": "routed", "peer": target.peer, "replica": target.child}
            yield prompt.told({**told, "service": service, "moves": prompt.moves})
        if not queue:
            self.book.queues.pop(service, None)
