"""Between the fronts' letters and this peer's replicas: who asked for what, and how far it is.

A front that is silent about a prompt of its for too long has lost it, or is gone: it is cancelled.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from p2p.processes import Children
from p2p.routing.letters import (
    Alive,
    Ended,
    Gone,
    Has,
    OrderFor,
    Piece,
    Pieces,
    Stuck,
    ToFront,
    ToHost,
)
from p2p.serving.messages import Cancel, Done, Tokens

FORGOTTEN_S = 6.0
LOOK_EVERY_S = 0.5
REFUSED_S = 0.2  # until the front knows better who can answer


@dataclass(slots=True)
class _Stream:
    front: Hashable
    child: str
    at: int
    heard_s: float


class Relay:
    """`say(front, letter)` reaches a front as it was given with its order."""

    def __init__(self, children: Children, say: Callable[[Hashable, ToFront], None]) -> None:
        self._children = children
        self._say = say
        self._streams: dict[str, _Stream] = {}  # by request, as the front calls it
        self._at: dict[str, dict[str, _Stream]] = {}  # the same, by child
        self._told_stuck: dict[str, set[Hashable]] = {}  # by child, fronts
        self._ticked_s = 0.0

    @property
    def is_idle(self) -> bool:
        return not self._streams

    def prompts(self, child: str) -> int:
        """How many prompts that replica has."""
        return len(self._at.get(child, ()))

    def on_letter(self, front: Hashable, letter: ToHost, can_answer: bool, now_s: float) -> None:
        if isinstance(letter, Alive):
            self._on_alive(front, letter, now_s)
        else:
            self._on_order(front, letter, can_answer, now_s)

    def on_tokens(self, child: str, told: Tokens) -> None:
        by_front: dict[Hashable, list[Piece]] = {}
        for said in told.streams:
            stream = self._streams.get(said.request)
            if stream is not None and stream.child == child:
                piece = Piece(said.request, stream.at, said.ids, said.text)
                by_front.setdefault(stream.front, []).append(piece)
                stream.at += len(said.ids)
        for front, pieces in by_front.items():
            self._say(front, Pieces(child, self.prompts(child), tuple(pieces)))

    def on_done(self, child: str, done: Done) -> None:
        stream = self._forget(done.request)
        if stream is not None:
            self._say(stream.front, Ended(child, self.prompts(child), done))

    def on_stuck(self, child: str) -> None:
        """Said again and again, until it is not, or it ended."""
        fronts = {stream.front: None for stream in self._at.get(child, {}).values()}
        self._told_stuck.setdefault(child, set()).update(fronts)
        for front in fronts:
            self._say(front, Stuck(child))

    def on_exit(self, child: str, died: bool) -> None:
        fronts = {stream.front: None for stream in self._at.get(child, {}).values()}
        fronts |= dict.fromkeys(self._told_stuck.pop(child, ()))
        for request in list(self._at.get(child, ())):
            self._forget(request)
        for front in fronts:
            self._say(front, Gone(child, died))

    def on_tick(self, now_s: float) -> None:
        if now_s - self._ticked_s < LOOK_EVERY_S:
            return
        self._ticked_s = now_s
        for request, stream in list(self._streams.items()):
            if now_s - stream.heard_s >= FORGOTTEN_S:
                self._forget(request)
                self._children.send(stream.child, Cancel(request).to_wire())

    def _on_alive(self, front: Hashable, letter: Alive, now_s: float) -> None:
        unknown, children = [], dict[str, int]()
        for request in letter.requests:
            stream = self._streams.get(request)
            if stream is None:
                unknown.append(request)
                continue
            stream.heard_s = now_s
            children[stream.child] = self.prompts(stream.child)
        self._say(front, Has(children, tuple(unknown)))

    def _on_order(self, front: Hashable, letter: OrderFor, can_answer: bool, now_s: float) -> None:
        child, order = letter.child, letter.order
        known = self._streams.get(order.request)
        if isinstance(order, Cancel):
            if known is None or known.child != child:
                return
            self._forget(order.request)
        else:
            if known is not None:
                return  # sent twice, answered once
            if not can_answer:
                busy = "it answers no new prompts"
                done = Done(order.request, "error", 0, 0, error=busy, retry_s=REFUSED_S)
                self._say(front, Ended(child, self.prompts(child), done))
                return
            stream = _Stream(front, child, len(order.sent), now_s)
            self._streams[order.request] = stream
            self._at.setdefault(child, {})[order.request] = stream
        self._children.send(child, order.to_wire())

    def _forget(self, request: str) -> _Stream | None:
        stream = self._streams.pop(request, None)
        if stream is not None:
            at = self._at[stream.child]
            del at[request]
            if not at:
                del self._at[stream.child]
        return stream
