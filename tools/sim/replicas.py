"""Replicas that follow a script: they load, and answer with ids and text that depend on nothing
but the prompt, the seed and the place: what a model does that is played by arithmetic.

They play p2p.processes.MemoryChildren, so that the product's own desks route real prompts.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from p2p.processes import MemoryChildren
from p2p.serving.messages import (
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Pulse,
    Ready,
    Stream,
    Tokens,
)
from p2p.serving.protocol import order as parsed

STREAMS = 4
STEPS_PER_BEAT = 50


def answer_of(order: Generate, count: int | None = None) -> list[int]:
    """The ids that any replica gives, of `count` or as many as are asked for."""
    prompt = f"{order.text}{order.messages}{order.tokens}{order.sampling.seed}".encode()
    return [
        zlib.crc32(prompt + str(at).encode()) % 1_000 for at in range(count or order.max_tokens)
    ]


def text_of(ids: list[int]) -> str:
    return "".join(f"{id_} " for id_ in ids)


@dataclass
class _Replica:
    loaded: bool = False
    read: int = 0  # of its orders
    running: dict[str, Generate] = field(default_factory=dict)  # with what they have as `sent`


class Replicas:
    """Of one process of a peer; they end with it."""

    def __init__(self, children: MemoryChildren) -> None:
        self._children = children
        self._replicas: dict[str, _Replica] = {}
        self._hung: set[str] = set()
        self._steps = 0
        self.generated = 0
        self.fails = ""  # why those that load now cannot

    def hang(self, child: str) -> None:
        """It says nothing more."""
        self._hung.add(child)

    def play(
        self, say: Callable[[str, dict[str, Any]], None], end: Callable[[str, str], None]
    ) -> int:
        """Every replica takes one step; returns how many had something to do."""
        busy = 0
        self._steps += 1
        for child, begin in list(self._children.started.items()):
            if begin["kind"] != "load":
                continue
            if child in self._children.killed:
                self._children.end(child)
                self._replicas.pop(child, None)
                end(child, "its process ended")
                busy += 1
                continue
            if child in self._hung:
                continue
            if self._steps % STEPS_PER_BEAT == 0:
                say(child, Pulse("wait", 0.0, None).to_wire())
            replica = self._replicas.setdefault(child, _Replica())
            said = self._step(replica, begin, self._children.told[child])
            for message in said:
                say(child, message)
                if message["kind"] == "failed":
                    self._children.kill(child)
            busy += bool(said)
        return busy

    def _step(self, replica: _Replica, begin: Any, orders: list[Any]) -> list[dict[str, Any]]:
        if not replica.loaded:
            replica.loaded = True
            load = parsed(begin)
            assert isinstance(load, Load)
            if self.fails:
                return [Failed(self.fails).to_wire()]
            return [Ready(load.name, 1_000, 4_000, 128, "sha256:model", STREAMS).to_wire()]
        said: list[dict[str, Any]] = []
        for wire in orders[replica.read :]:
            told = parsed(wire)
            match told:
                case Generate():
                    replica.running[told.request] = told
                case Cancel() if told.request in replica.running:
                    gone = replica.running.pop(told.request)
                    said.append(Done(told.request, "cancelled", 1, len(gone.sent)).to_wire())
        replica.read = len(orders)
        return said + self._decode(replica)

    def _decode(self, replica: _Replica) -> list[dict[str, Any]]:
        going = list(replica.running)[:STREAMS]
        streams, done = [], []
        for name in going:
            order = replica.running[name]
            at = len(order.sent)
            if at < order.max_tokens:
                id_ = answer_of(order, at + 1)[-1]
                streams.append(Stream(name, (id_,), text_of([id_])))
                order = replica.running[name] = replace(order, sent=(*order.sent, id_))
                self.generated += 1
            if len(order.sent) == order.max_tokens:
                del replica.running[name]
                done.append(Done(name, "length", 1, order.max_tokens).to_wire())
        waiting = len(replica.running) - len(going)
        tokens = [Tokens(tuple(streams), len(going), max(0, waiting)).to_wire()] if streams else []
        return tokens + done
