"""All prompts of a front: which a replica has, which wait, which are over. Pure."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from p2p.routing.choice import Replicas
from p2p.routing.endings import busy, hopeless
from p2p.routing.prompts import (
    ID_BYTES,
    Asked,
    Effect,
    Prompt,
    ToClient,
    ToReplica,
    size_of,
)
from p2p.routing.queues import Queue
from p2p.serving.messages import Cancel

QUEUED_MAX = 1_000  # prompts of one service that wait here
QUEUED_BYTES_MAX = 64 * 1024 * 1024  # of all prompts here


@dataclass
class Book:
    """Every change says what is to be sent."""

    replicas: Replicas
    prompts: dict[str, Prompt] = field(default_factory=dict)  # by request
    queues: dict[str, Queue] = field(default_factory=dict)  # by service
    bytes: int = 0
    _revisions: Mapping[str, int] = field(default_factory=dict)  # by service, its newest
    _ended: set[str] = field(default_factory=set)  # services that are not served any more

    def enter(self, asked: Asked, now_s: float, usual_s: float) -> Prompt | ToClient:
        """The prompt, which waits; or that there are too many."""
        queued, size = len(self.queues.get(asked.service, ())), size_of(asked)
        # Who has begun elsewhere was let in there.
        is_full = queued >= QUEUED_MAX and not asked.order.sent
        if is_full or self.bytes + size > QUEUED_BYTES_MAX:
            return busy(asked, queued, self.replicas.answering(asked.service), usual_s)
        ids = list(asked.order.sent)
        made = Prompt(asked, now_s, now_s, now_s, now_s, ids, len(ids), asked.begun)
        self.prompts[made.request] = made
        self.bytes += size
        self._queue(made).add(made)
        return made

    def of(self, client: Hashable, request: str) -> Prompt | None:
        prompt = self.prompts.get(request)
        return prompt if prompt is not None and prompt.asked.client == client else None

    def follow(self, revisions: Mapping[str, int]) -> list[Effect]:
        """What is served, and its newest weights."""
        self._ended |= self._revisions.keys() - revisions.keys()
        self._ended &= {prompt.asked.service for prompt in self.prompts.values()}
        self._revisions = dict(revisions)
        waiting = [prompt for queue in self.queues.values() for prompt in queue.prompts()]
        held = [p for p in self.prompts.values() if p.held_s is not None]
        return [effect for prompt in (*waiting, *held) for effect in self._hope(prompt)]

    def push(self, prompt: Prompt, ids: tuple[int, ...]) -> None:
        """Its replica said these."""
        assert prompt.target is not None
        prompt.ids.extend(ids)
        prompt.deaths, prompt.weights = 0, prompt.target.weights
        prompt.left.clear()
        self.bytes += ID_BYTES * len(ids)

    def blame(self, child: str) -> list[Effect]:
        """It died, with these prompts, or was stuck with those that had left it since."""
        effects: list[Effect] = []
        for prompt in list(self.prompts.values()):
            is_at = prompt.target is not None and prompt.target.child == child
            if is_at or child in prompt.left:
                prompt.left.discard(child)
                self._queue(prompt).remove(prompt)  # it may be of another kind now
                prompt.deaths += 1
                if prompt.target is None and prompt.held_s is None:
                    self._queue(prompt).add(prompt, first=True)
                    effects += self._hope(prompt)
        return effects

    def leave(self, prompt: Prompt, now_s: float) -> list[Effect]:
        """Away from its replica, which may still be there, to another."""
        prompt.moves += 1
        return [*self._cancelled(prompt), *self.requeue(prompt, now_s)]

    def requeue(self, prompt: Prompt, now_s: float) -> list[Effect]:
        """Before those of its kind that came later."""
        self.replicas.take_back(prompt)
        prompt.waits_s, prompt.held_s = now_s, None
        self._queue(prompt).add(prompt, first=True)
        return self._hope(prompt)

    def hold(self, prompt: Prompt, now_s: float) -> list[Effect]:
        """Its client does not read: somebody else gets its place at the replica. Who goes on finds
        its cache there, unless it was needed meanwhile.
        """
        effects = self._cancelled(prompt)
        self.replicas.take_back(prompt)
        prompt.held_s = now_s
        return effects

    def leave_all(self, child: str, now_s: float) -> list[Effect]:
        """In the order in which they came there; it need not be told."""
        effects: list[Effect] = []
        for prompt in reversed(self.replicas.at(child)):
            left = self.leave(prompt, now_s)
            effects += [effect for effect in left if isinstance(effect, ToClient)]
        return effects

    def fail(self, prompt: Prompt, why: str) -> list[Effect]:
        last = prompt.told({"error": why, "exit_code": 1}, is_last=True)
        return [*self.drop(prompt), last]

    def drop(self, prompt: Prompt) -> list[Effect]:
        effects, prompt.is_over = self._cancelled(prompt), True
        self.replicas.take_back(prompt)
        del self.prompts[prompt.request]
        self._queue(prompt).remove(prompt)
        new_ids = len(prompt.ids) - len(prompt.asked.order.sent)
        self.bytes -= size_of(prompt.asked) + ID_BYTES * new_ids
        return effects

    def _hope(self, prompt: Prompt) -> list[Effect]:
        """The end of a prompt that waits for what will not come any more."""
        service = prompt.asked.service
        is_served, newest = service not in self._ended, self._revisions.get(service)
        why = hopeless(prompt, self.replicas, is_served, newest)
        return [] if why is None else self.fail(prompt, why)

    def _queue(self, prompt: Prompt) -> Queue:
        return self.queues.setdefault(prompt.asked.service, Queue())

    def _cancelled(self, prompt: Prompt) -> list[Effect]:
        target = prompt.target
        return [ToReplica(target, Cancel(prompt.wire_id))] if target else []
