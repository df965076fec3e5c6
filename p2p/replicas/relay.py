"""Between the fronts' letters and this peer's replicas: who asked for what, and how far it is.

A front that is silent about a prompt of its for too long has lost it, or is gone: it is cancelled.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from p2p.processes import Children
from p2p.routing.letters import Alive, Ended, Gone, OrderFor, Piece, Pieces, ToFront, ToHost
from p2p.serving.messages import Cancel, Done, Generate, Tokens

FORGOTTEN_S = 6.0
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

    def prompts(self, child: str) -> int:
        return sum(stream.child == child for stream in self._streams.values())

    def on_letter(self, front: Hashable, letter: ToHost, can_answer: bool, now_s: float) -> None:
        if isinstance(letter, Alive):
            for request in letter.requests:
                if request in self._streams:
                    self._streams[request].heard_s = now_s
            return
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
            self._say(front, Pieces(child, told.running, told.waiting, tuple(pieces)))

    def on_done(self, child: str, done: Done) -> None:
        stream = self._streams.pop(done.request, None)
        if stream is not None:
            self._say(stream.front, Ended(child, done))

    def on_exit(self, child: str) -> None:
        fronts = {s.front: None for s in self._streams.values() if s.child == child}
        self._streams = {id_: s for id_, s in self._streams.items() if s.child != child}
        for front in fronts:
            self._say(front, Gone(child))

    def on_tick(self, now_s: float) -> None:
        for request, stream in list(self._streams.items()):
            if now_s - stream.heard_s >= FORGOTTEN_S:
                del self._streams[request]
                self._children.send(stream.child, Cancel(request).to_wire())

    def _on_order(self, front: Hashable, letter: OrderFor, can_answer: bool, now_s: float) -> None:
        child, order = letter.child, letter.order
        known = self._streams.get(order.request) if hasattr(order, "request") else None
        if isinstance(order, Generate):
            if not can_answer:
                busy = "it answers no new prompts"
                done = Done(order.request, "error", 0, 0, error=busy, retry_s=REFUSED_S)
                self._say(front, Ended(child, done))
                return
            self._streams[order.request] = _Stream(front, child, len(order.sent), now_s)
        elif known is None or known.child != child:
            return
        elif isinstance(order, Cancel):
            del self._streams[order.request]
        self._children.send(child, order.to_wire())
