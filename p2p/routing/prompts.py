"""What a front knows of a prompt and of a replica, and what it has sent. Pure."""

import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p2p.serving.messages import Generate, PromptOrder

ID_BYTES = 36  # of one id in a list, with its place there
DEATHS_MAX = 3  # of replicas in a row that had the prompt: it may be what ends them


class Weights(NamedTuple):
    """What ids come from: an answer that began with some goes on with these or not at all. The
    digest also says how they are computed with (p2p.serving.messages.Ready).
    """

    revision: int
    digest: str


@dataclass(frozen=True, slots=True)
class Target:
    """A replica that can answer."""

    child: str
    peer: str
    service: str
    revision: int
    digest: str = ""

    @property
    def weights(self) -> Weights:
        return Weights(self.revision, self.digest)


@dataclass(frozen=True, slots=True)
class Asked:
    """`client` = whom to tell; a prompt asked again from elsewhere goes on there. `begun`: what
    the ids come from that the client has already, if it knows.
    """

    order: Generate
    service: str
    client: Hashable
    conversation: str | None = None
    timeout_s: float = 600.0
    begun: Weights | None = None


@dataclass(frozen=True, slots=True)
class ToReplica:
    target: Target
    order: PromptOrder


@dataclass(frozen=True, slots=True)
class ToClient:
    """`told` is a part of the answer, or `is_last`: its end, with "error" if it failed."""

    client: Hashable
    request: str
    told: Mapping[str, Any]
    is_last: bool = False


Effect = ToReplica | ToClient


@dataclass(slots=True)
class Prompt:
    asked: Asked
    asked_s: float
    heard_s: float  # of its client
    told_s: float
    waits_s: float  # since when no replica has it
    ids: list[int]
    read: int  # of the ids
    weights: Weights | None = None  # that its ids come from
    wire_id: str = ""  # of the attempt that counts
    target: Target | None = None
    held_s: float | None = None
    deaths: int = 0  # of replicas that had it, since its last id came
    left: set[str] = field(default_factory=set)  # replicas that seemed to hang, since then
    moves: int = 0
    look: int = 0  # the number of the next look at it
    is_over: bool = False

    @property
    def request(self) -> str:
        return self.asked.order.request

    @property
    def needs(self) -> Weights | None:
        """The only weights that it can go on with."""
        return self.weights if self.ids else None

    @property
    def is_suspect(self) -> bool:
        """One more death and it is given up: so it is answered alone, that no other's shows."""
        return self.deaths >= DEATHS_MAX - 1

    def told(self, told: Mapping[str, Any], is_last: bool = False) -> ToClient:
        return ToClient(self.asked.client, self.request, told, is_last)


def size_of(asked: Asked) -> int:
    """Bytes that a prompt takes here, without the ids that are still to come."""
    order = asked.order
    texts = [order.text or "", *order.stop]
    texts += [text for message in order.messages or () for text in message.values()]
    ids = len(order.tokens or ()) + 2 * len(order.sent)
    return 2_000 + sum(map(sys.getsizeof, texts)) + ID_BYTES * ids
