"""Trainers that follow a script: they get ready, enter every generation, agree on a mark, finish.

They play p2p.processes.MemoryChildren, so that the product's own desk and controller run jobs.
"""

from collections.abc import Mapping
from typing import Any

from p2p.peer import Peer
from p2p.processes import MemoryChildren

STEPS = 40


class Trainers:
    """Of one process of a peer; they end with it."""

    def __init__(self, children: MemoryChildren) -> None:
        self._children = children
        self._ready: set[str] = set()
        self._said: dict[str, tuple[int, str]] = {}  # by child: what last, in which generation

    def play(self, peer: Peer, may_finish: bool) -> None:
        """Every trainer does one thing it was told."""
        for child, orders in list(self._children.told.items()):
            if child in self._children.killed or any(o["kind"] == "stop" for o in orders):
                self._children.end(child)
                peer.on_trainer_exit(child, "its process ended")
                continue
            for message in self._next(child, orders, may_finish):
                peer.on_trainer(child, message)

    def _next(
        self, child: str, orders: list[Mapping[str, Any]], may_finish: bool
    ) -> list[dict[str, Any]]:
        if child not in self._ready:
            self._ready.add(child)
            return [{"kind": "ready", "endpoints": {"tcp": child}, "steps_total": STEPS}]
        if not orders or orders[-1]["kind"] != "generation":
            return []
        number = int(orders[-1]["number"])
        generation, said = self._said.get(child, (0, ""))
        if generation != number:
            self._said[child] = number, "entered"
            facts = {"start_step": 1, "stall_s": 0.1, "steps_repeated": 0}
            return [{"kind": "entered", "generation": number, **facts}]
        if said == "entered":
            self._said[child] = number, "mark"
            return [{"kind": "mark", **_standing(number, number % STEPS)}]
        if said == "finished" or not may_finish:
            return []
        self._said[child] = number, "finished"
        first = orders[-1]["members"][0]["endpoints"]["tcp"] == child
        saved = {"path": f"/data/{STEPS}", "bytes": 10, "seconds": 0.1, "state_hash": "same"}
        checkpoints = [{"kind": "checkpoint", "step": STEPS, **saved}] if first else []
        return [*checkpoints, {"kind": "finished", **_standing(number, STEPS)}]


def _standing(number: int, step: int) -> dict[str, Any]:
    return {
        "generation": number,
        "step": step,
        "epoch": 0,
        "samples": step * 12,
        "loss": 0.5,
        "metrics": {"accuracy": 0.9},
        "state_hash": "same",
        "ledger": [{"epoch": 0, "samples": 1, "distinct": 1, "repeated": 0, "missing": 0}],
    }
