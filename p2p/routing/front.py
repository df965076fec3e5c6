"""Which replica answers which prompt, and what its client is told. Pure: no clock, no sockets.

The peer that a client asks is the front of its prompts: it keeps each with the ids that were
passed on, so that another replica can go on from there when one is lost; what a replica generates
depends on nothing else. Of one prompt one attempt counts at a time, and the attempts are numbered:
what an earlier one still says is ignored.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from p2p.measure.serving import ServingFigures
from p2p.serving.messages import Cancel, Done, Generate, GoOn, Hold, Order

QUEUED_MAX = 1_000  # prompts of one service that wait here
QUEUED_BYTES_MAX = 64 * 1024 * 1024  # of all prompts here
AT_REPLICA_MAX = 64  # prompts that this front gives to one replica at a time
UNREAD_MAX = 256  # ids on their way to a client before its stream is held
HELD_MAX_S = 60.0
SILENT_CLIENT_S = 15.0
STALLED_S = 30.0  # a replica that says nothing of any prompt for so long is left
NOBODY_MAX_S = 60.0  # so long a prompt waits while no replica can answer
TELL_EVERY_S = 1.0  # a client whose prompt waits
DEATHS_MAX = 3  # of replicas that had the prompt: it may be what ends them
STICKY_SLACK = 4  # prompts more than elsewhere, and a conversation still stays with its replica
CONVERSATIONS_MAX = 10_000
USUAL_S = 2.0  # per prompt, until some were answered
RETRY_MIN_S, RETRY_MAX_S = 1, 60


@dataclass(frozen=True, slots=True)
class Target:
    """A replica that can answer."""

    child: str
    peer: str
    service: str
    revision: int


@dataclass(frozen=True, slots=True)
class Asked:
    """`client` = whom to tell; a prompt asked again from elsewhere goes on there."""

    order: Generate
    service: str
    client: Hashable
    conversation: str | None = None
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class ToReplica:
    target: Target
    order: Order


@dataclass(frozen=True, slots=True)
class ToClient:
    """`told` is a part of the answer, or `is_last`: its end, with "error" if it failed."""

    client: Hashable
    request: str
    told: Mapping[str, Any]
    is_last: bool = False


Effect = ToReplica | ToClient


@dataclass(slots=True)
class _Prompt:
    asked: Asked
    asked_s: float
    heard_s: float  # of its client
    told_s: float
    ids: list[int]
    read: int  # of the ids
    wire_id: str = ""  # of the attempt that counts
    target: Target | None = None
    news_s: float = 0.0  # of its replica
    held_s: float | None = None
    deaths: int = 0
    moves: int = 0
    revision: int | None = None  # of the weights that its ids come from
    waits_s: float = 0.0  # since when no replica has it
    bytes: int = 0


@dataclass(slots=True)
class _Load:
    running: int = 0
    waiting: int = 0
    since: int = 0  # prompts that it was given here since it told that
    avoid_until_s: float = 0.0
    heard_s: float = 0.0  # when it last said anything of a prompt from here


@dataclass
class Front:
    """Every call says what is to be sent. `name`: no other front has it, nor had one here before;
    a replica may still be at an attempt of a front that died.
    """

    name: str = ""
    targets: dict[str, Target] = field(default_factory=dict)  # by child
    prompts: dict[str, _Prompt] = field(default_factory=dict)  # by request
    loads: dict[str, _Load] = field(default_factory=dict)  # by child
    usual_s: float = USUAL_S
    figures: ServingFigures = field(default_factory=ServingFigures)
    _queues: dict[str, OrderedDict[str, None]] = field(default_factory=dict)  # by service
    _at: dict[str, dict[str, _Prompt]] = field(default_factory=dict)  # by child and wire id
    _last_child: OrderedDict[str, str] = field(default_factory=OrderedDict)  # by conversation
    _bytes: int = 0
    _attempts: int = 0

    # -- of clients ------------------------------------------------------------------------------

    def ask(self, asked: Asked, now_s: float) -> list[Effect]:
        request = asked.order.request
        effects: list[Effect] = []
        known = self.prompts.get(request)
        if known is not None:
            if known.asked.client != asked.client:
                told = {"error": "this request was asked again from elsewhere", "exit_code": 1}
                effects.append(ToClient(known.asked.client, request, told, is_last=True))
            effects += self._drop(known)
        queue = self._queues.setdefault(asked.service, OrderedDict())
        size = _bytes_of(asked.order)
        if len(queue) >= QUEUED_MAX or self._bytes + size > QUEUED_BYTES_MAX:
            return [*effects, self._busy(asked, len(queue))]
        ids = list(asked.order.sent)
        made = _Prompt(asked, now_s, now_s, now_s, ids, len(ids), waits_s=now_s, bytes=size)
        self.prompts[request] = made
        self._bytes += size
        queue[request] = None
        return effects + self._dispatch(asked.service, now_s)

    def read(self, client: Hashable, request: str, read: int, now_s: float) -> list[Effect]:
        """The client lives, and has so many of the ids."""
        prompt = self.prompts.get(request)
        if prompt is None or prompt.asked.client != client:
            told = {"error": "this peer does not have that request", "exit_code": 1, "lost": True}
            return [ToClient(client, request, told, is_last=True)]
        prompt.heard_s = now_s
        prompt.read = max(prompt.read, min(read, len(prompt.ids)))
        unread = len(prompt.ids) - prompt.read
        if prompt.held_s is not None and prompt.target and unread <= UNREAD_MAX // 2:
            prompt.held_s, prompt.news_s = None, now_s
            return [ToReplica(prompt.target, GoOn(prompt.wire_id))]
        return []

    def cancel(self, request: str, now_s: float) -> list[Effect]:
        prompt = self.prompts.get(request)
        return [] if prompt is None else self._end(prompt, now_s, "cancelled")

    # -- of replicas -----------------------------------------------------------------------------

    def follow(self, targets: Iterable[Target], now_s: float) -> list[Effect]:
        """These can answer. Who cannot any more goes on with what it has until it is lost."""
        self.targets = {target.child: target for target in targets}
        for child in self.loads.keys() - self.targets.keys() - self._at.keys():
            del self.loads[child]
        return self._dispatch_all(now_s)

    def load(self, child: str, running: int, waiting: int) -> None:
        """As it was last told, of all fronts' prompts together."""
        load = self.loads.setdefault(child, _Load())
        load.running, load.waiting, load.since = running, waiting, 0

    def tokens(
        self, child: str, wire_id: str, at: int, ids: tuple[int, ...], text: str, now_s: float
    ) -> list[Effect]:
        """`at`: how many ids of the answer came before, those that were sent to it among them."""
        prompt = self._at.get(child, {}).get(wire_id)
        if prompt is None or prompt.target is None:
            return []
        if at != len(prompt.ids):  # something was lost on the way
            return self._leave(prompt, now_s) + self._dispatch(prompt.asked.service, now_s)
        if not prompt.ids:
            self.figures.first_token(prompt.asked.service, now_s - prompt.asked_s)
        self.figures.tokens(prompt.asked.service, len(ids))
        prompt.ids.extend(ids)
        self.loads.setdefault(child, _Load()).heard_s = prompt.news_s = now_s
        prompt.revision = prompt.target.revision
        told = {"kind": "tokens", "at": at, "ids": list(ids), "text": text}
        effects: list[Effect] = [self._tell(prompt, told, now_s)]
        if len(prompt.ids) - prompt.read > UNREAD_MAX and prompt.held_s is None:
            prompt.held_s = now_s
            effects.append(ToReplica(prompt.target, Hold(wire_id)))
        return effects

    def done(self, child: str, done: Done, now_s: float) -> list[Effect]:
        prompt = self._at.get(child, {}).get(done.request)
        if prompt is None or prompt.target is None:
            return []
        service = prompt.asked.service
        self.loads.setdefault(child, _Load()).heard_s = now_s
        if done.retry_s is not None or done.reason == "cancelled":  # it has too many, or ends
            wait_s = done.retry_s or 0.0
            self.loads.setdefault(child, _Load()).avoid_until_s = now_s + wait_s
            self._requeue(prompt, now_s)
            return self._dispatch(service, now_s)
        if done.reason != "error" and done.completion_tokens != len(prompt.ids):
            return self._leave(prompt, now_s) + self._dispatch(service, now_s)
        target, took_s = prompt.target, now_s - prompt.asked_s
        told: dict[str, Any] = {
            "reason": done.reason,
            "text": done.text,
            "usage": {
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": done.completion_tokens,
            },
            "peer": target.peer,
            "replica": child,
            "revision": target.revision,
            "moves": prompt.moves,
            "seconds": took_s,
        }
        if done.reason == "error":
            told = {"error": done.error or "the replica failed", "exit_code": 1}
        else:
            self.usual_s += 0.1 * (took_s - self.usual_s)
            self.figures.answered(service, took_s)
        self._drop(prompt, tell_replica=False)
        last = ToClient(prompt.asked.client, prompt.asked.order.request, told, is_last=True)
        return [last, *self._dispatch(service, now_s)]

    def lost(self, child: str, now_s: float, died: bool = True) -> list[Effect]:
        """It died, or cannot be reached: others go on with what it had."""
        self.targets.pop(child, None)
        self.loads.pop(child, None)
        effects: list[Effect] = []
        for prompt in list(self._at.pop(child, {}).values()):
            prompt.deaths += died
            if prompt.deaths >= DEATHS_MAX:
                why = f"{prompt.deaths} replicas ended while they answered this prompt"
                effects += self._fail(prompt, why)
                continue
            self._requeue(prompt, now_s)
        return effects + self._dispatch_all(now_s)

    def lost_peer(self, peer: str, now_s: float) -> list[Effect]:
        known = [*self.targets.values(), *(p.target for p in self.prompts.values() if p.target)]
        children = dict.fromkeys(target.child for target in known if target.peer == peer)
        return [effect for child in children for effect in self.lost(child, now_s, died=False)]

    def unserved(self, services: Iterable[str], now_s: float) -> list[Effect]:
        """Nobody answers for these any more."""
        gone = set(services)
        ended = [prompt for prompt in self.prompts.values() if prompt.asked.service in gone]
        return [e for prompt in ended for e in self._fail(prompt, "it is served no more")]

    # -- of time ---------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        ahead = {name: n for queue in self._queues.values() for n, name in enumerate(queue)}
        for request, prompt in list(self.prompts.items()):
            effects += self._look_at(prompt, ahead.get(request, 0), now_s)
        return effects + self._dispatch_all(now_s)

    def _look_at(self, prompt: _Prompt, ahead: int, now_s: float) -> list[Effect]:
        asked, target = prompt.asked, prompt.target
        if now_s - prompt.heard_s >= SILENT_CLIENT_S:
            return self._drop(prompt)
        if now_s - prompt.asked_s >= asked.timeout_s:
            return self._fail(prompt, f"it was not answered within {asked.timeout_s:g} s")
        if prompt.held_s is not None and now_s - prompt.held_s >= HELD_MAX_S:
            return self._fail(prompt, f"its client read nothing for {HELD_MAX_S:g} s")
        if target is not None and prompt.held_s is None:
            load = self.loads.setdefault(target.child, _Load())
            if now_s - max(prompt.news_s, load.heard_s) >= STALLED_S:
                load.avoid_until_s = now_s + STALLED_S
                return self._leave(prompt, now_s)
        if target is None and now_s - prompt.waits_s >= NOBODY_MAX_S and not self._able(prompt):
            why = f"no replica could answer for {NOBODY_MAX_S:g} s: `p2pnode status` shows why"
            return self._fail(prompt, why)
        if now_s - prompt.told_s >= TELL_EVERY_S:
            return [self._tell(prompt, {"kind": "waiting", "ahead": ahead}, now_s)]
        return []

    def queued(self) -> dict[str, int]:
        """How many prompts wait here, by service."""
        return {service: len(queue) for service, queue in self._queues.items() if queue}

    def wire_ids(self) -> dict[Target, list[str]]:
        """What every replica should be at, of this front."""
        found: dict[Target, list[str]] = {}
        for prompts in self._at.values():
            for wire_id, prompt in prompts.items():
                if prompt.target is not None:
                    found.setdefault(prompt.target, []).append(wire_id)
        return found

    # -- inside ----------------------------------------------------------------------------------

    def _dispatch_all(self, now_s: float) -> list[Effect]:
        return [effect for service in self._queues for effect in self._dispatch(service, now_s)]

    def _dispatch(self, service: str, now_s: float) -> list[Effect]:
        return list(self._dispatched(service, now_s))

    def _dispatched(self, service: str, now_s: float) -> Iterator[Effect]:
        queue = self._queues.get(service, OrderedDict())
        for request in list(queue):
            prompt = self.prompts[request]
            target = self._choose(prompt, now_s)
            if target is None:
                return  # whoever came first is served first
            del queue[request]
            self._attempts += 1
            prompt.wire_id = f"{self.name}.{self._attempts}.{request}"
            prompt.target, prompt.news_s, prompt.held_s = target, now_s, None
            self._at.setdefault(target.child, {})[prompt.wire_id] = prompt
            self.loads[target.child].since += 1
            if prompt.asked.conversation is not None:
                self._last_child[prompt.asked.conversation] = target.child
                self._last_child.move_to_end(prompt.asked.conversation)
                if len(self._last_child) > CONVERSATIONS_MAX:
                    self._last_child.popitem(last=False)
            order = replace(prompt.asked.order, request=prompt.wire_id, sent=tuple(prompt.ids))
            yield ToReplica(target, order)
            told = {"kind": "routed", "peer": target.peer, "replica": target.child}
            yield self._tell(prompt, {**told, "moves": prompt.moves}, now_s)

    def _able(self, prompt: _Prompt) -> list[Target]:
        return [told for told in self.targets.values() if told.service == prompt.asked.service]

    def _choose(self, prompt: _Prompt, now_s: float) -> Target | None:
        able = [
            target
            for target in self._able(prompt)
            if len(self._at.get(target.child, ())) < AT_REPLICA_MAX
            and self.loads.setdefault(target.child, _Load()).avoid_until_s <= now_s
        ]
        if prompt.ids and prompt.revision is not None:  # the same weights, if they are left
            same = [target for target in able if target.revision == prompt.revision]
            able = same or able
        if not able:
            return None
        least = min(able, key=lambda target: (self._work(target), target.child))
        last = self._last_child.get(prompt.asked.conversation or "")
        sticky = next((target for target in able if target.child == last), least)
        return sticky if self._work(sticky) <= self._work(least) + STICKY_SLACK else least

    def _work(self, target: Target) -> int:
        """Prompts it has: what it told and was given since, or at least those from here."""
        load = self.loads[target.child]
        told = load.running + load.waiting + load.since
        return max(told, len(self._at.get(target.child, ())))

    def _leave(self, prompt: _Prompt, now_s: float) -> list[Effect]:
        """Away from its replica, which may still be there."""
        target, wire_id = prompt.target, prompt.wire_id
        self._requeue(prompt, now_s)
        return [ToReplica(target, Cancel(wire_id))] if target else []

    def _requeue(self, prompt: _Prompt, now_s: float) -> None:
        """Before those that nobody has begun."""
        self._forget_at(prompt)
        prompt.moves += 1
        prompt.waits_s, prompt.held_s = now_s, None
        queue = self._queues.setdefault(prompt.asked.service, OrderedDict())
        queue[prompt.asked.order.request] = None
        queue.move_to_end(prompt.asked.order.request, last=False)

    def _end(self, prompt: _Prompt, now_s: float, reason: str) -> list[Effect]:
        told = {"reason": reason, "text": "", "seconds": now_s - prompt.asked_s}
        client, request = prompt.asked.client, prompt.asked.order.request
        return [*self._drop(prompt), ToClient(client, request, told, is_last=True)]

    def _fail(self, prompt: _Prompt, why: str) -> list[Effect]:
        told = {"error": why, "exit_code": 1}
        client, request = prompt.asked.client, prompt.asked.order.request
        return [*self._drop(prompt), ToClient(client, request, told, is_last=True)]

    def _drop(self, prompt: _Prompt, tell_replica: bool = True) -> list[Effect]:
        request, target = prompt.asked.order.request, prompt.target
        self._forget_at(prompt)
        del self.prompts[request]
        self._queues.get(prompt.asked.service, OrderedDict()).pop(request, None)
        self._bytes -= prompt.bytes
        return [ToReplica(target, Cancel(prompt.wire_id))] if target and tell_replica else []

    def _forget_at(self, prompt: _Prompt) -> None:
        if prompt.target is not None:
            at = self._at.get(prompt.target.child)
            if at is not None:
                at.pop(prompt.wire_id, None)
                if not at:
                    del self._at[prompt.target.child]
            prompt.target = None

    def _tell(self, prompt: _Prompt, told: Mapping[str, Any], now_s: float) -> Effect:
        prompt.told_s = now_s
        return ToClient(prompt.asked.client, prompt.asked.order.request, told)

    def _busy(self, asked: Asked, queued: int) -> Effect:
        able = sum(told.service == asked.service for told in self.targets.values())
        each_s = self.usual_s / max(1, able * AT_REPLICA_MAX)
        retry_s = min(max(RETRY_MIN_S, round(queued * each_s)), RETRY_MAX_S)
        text = f"{queued} prompts wait here already: busy, retry after {retry_s} s"
        told = {"error": text, "exit_code": 1, "kind": "Busy", "retry_s": retry_s}
        return ToClient(asked.client, asked.order.request, told, is_last=True)


def _bytes_of(order: Generate) -> int:
    messages = sum(len(message["content"]) for message in order.messages or ())
    ids = len(order.tokens or ()) + min(order.max_tokens, 8_192)
    return len(order.text or "") + messages + 8 * ids
