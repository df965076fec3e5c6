"""What a front and the peers of the replicas say to each other, built and checked. Pure.

"prompt", to the peer of a replica: an order for it, or which of this front's prompts live.
"stream", back: what its replica said of them in one decode step, or that it is stuck or gone, and
what it has of those that shall live.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2p.serving import protocol
from p2p.serving.checking import Fields, Malformed
from p2p.serving.messages import Done, Load, PromptOrder
from p2p.serving.protocol import REQUEST_CHARACTERS_MAX

ALIVE_MAX = 100_000
STREAMS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class OrderFor:
    child: str
    order: PromptOrder

    def to_wire(self) -> dict[str, Any]:
        return {"child": self.child, "order": self.order.to_wire()}


@dataclass(frozen=True, slots=True)
class Alive:
    """All prompts that this front has at replicas of that peer."""

    requests: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        return {"alive": list(self.requests)}


@dataclass(frozen=True, slots=True)
class Piece:
    """`at`: how many ids of the answer came before."""

    request: str
    at: int
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """`prompts`: how many that replica has, of all fronts."""

    child: str
    prompts: int
    pieces: tuple[Piece, ...]

    def to_wire(self) -> dict[str, Any]:
        told = [[piece.request, piece.at, list(piece.ids), piece.text] for piece in self.pieces]
        return {"child": self.child, "prompts": self.prompts, "pieces": told}


@dataclass(frozen=True, slots=True)
class Ended:
    """Of one prompt; `prompts` are left at that replica."""

    child: str
    prompts: int
    done: Done

    def to_wire(self) -> dict[str, Any]:
        return {"child": self.child, "prompts": self.prompts, "done": self.done.to_wire()}


@dataclass(frozen=True, slots=True)
class Gone:
    """The replica. `died`: nobody wanted that."""

    child: str
    died: bool

    def to_wire(self) -> dict[str, Any]:
        return {"child": self.child, "gone": self.died}


@dataclass(frozen=True, slots=True)
class Stuck:
    """Nothing is heard of the replica, or it is at one thing for too long."""

    child: str

    def to_wire(self) -> dict[str, Any]:
        return {"child": self.child, "stuck": True}


@dataclass(frozen=True, slots=True)
class Has:
    """The answer to Alive: how many prompts the replicas have, of all fronts, that have any of this
    one; and which of its requests nobody has here.
    """

    prompts: Mapping[str, int]
    unknown: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        return {"has": dict(self.prompts), "unknown": list(self.unknown)}


ToHost = OrderFor | Alive
ToFront = Pieces | Ended | Gone | Stuck | Has


def to_host(body: Mapping[str, Any]) -> ToHost:
    """Raises Malformed."""
    fields = Fields(body)
    if fields.has("alive"):
        return Alive(fields.texts("alive", ALIVE_MAX, REQUEST_CHARACTERS_MAX))
    order = protocol.order(fields.map("order").wire)
    if isinstance(order, Load):
        raise Malformed("no front says what a replica loads")
    return OrderFor(_child(fields), order)


def to_front(body: Mapping[str, Any]) -> ToFront:
    """Raises Malformed."""
    fields = Fields(body)
    if fields.has("has"):
        has = fields.map("has")
        unknown = fields.texts("unknown", ALIVE_MAX, REQUEST_CHARACTERS_MAX)
        return Has({child: has.whole(child) for child in has.wire}, unknown)
    child = _child(fields)
    if fields.has("gone"):
        return Gone(child, body["gone"] is True)
    if fields.has("stuck"):
        return Stuck(child)
    prompts = fields.whole("prompts")
    if fields.has("done"):
        done = protocol.news(fields.map("done").wire)
        if not isinstance(done, Done):
            raise Malformed("not the end of a prompt")
        return Ended(child, prompts, done)
    told = body.get("pieces")
    if not isinstance(told, list) or len(told) > STREAMS_MAX:
        raise Malformed("pieces is not a list")
    return Pieces(child, prompts, tuple(map(_piece, told)))


def _piece(told: Any) -> Piece:
    if not isinstance(told, Sequence) or len(told) != 4:
        raise Malformed("a piece is its request, place, ids and text")
    fields = Fields(dict(zip(("request", "at", "ids", "text"), told, strict=True)))
    request = fields.text("request", REQUEST_CHARACTERS_MAX, least=1)
    ids = fields.wholes("ids", protocol.TOKENS_MAX)
    return Piece(request, fields.whole("at"), ids, fields.text("text"))


def _child(fields: Fields) -> str:
    return fields.text("child", 200, least=1)
