"""Trainers that follow a script: they get ready, enter every generation, agree on a mark, finish.

They play p2p.processes.MemoryChildren, so that the product's own desk and controller run jobs.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any

from p2p.processes import MemoryChildren

STEPS = 40


class Trainers:
    """Of one process of a peer; they end with it."""

    def __init__(self, children: MemoryChildren) -> None:
        self._children = children
        self._ready: set[str] = set()
        self._said: dict[str, tuple[int, str]] = {}  # by child: what last, in which generation

    def play(
        self,
        say: Callable[[str, dict[str, Any]], None],
        end: Callable[[str, str], None],
        may_finish: bool = False,
        stuck: Set[str] = frozenset(),
    ) -> int:
        """Every trainer does one thing it was told; returns how many had something to do.

        The `stuck` do nothing, and who shares a generation with one gets nowhere either.
        """
        busy = 0
        for child, orders in list(self._children.told.items()):
            if self._children.started[child]["kind"] != "begin":
                continue
            stopped = any(order["kind"] == "stop" for order in orders) and child not in stuck
            if child in self._children.killed or stopped:
                self._children.end(child)
                end(child, "its process ended")
                busy += 1
            elif child not in stuck:
                said = self._next(child, orders, may_finish, stuck)
                for message in said:
                    say(child, message)
                busy += bool(said)
        return busy

    def _next(
        self, child: str, orders: list[Mapping[str, Any]], may_finish: bool, stuck: Set[str]
    ) -> list[dict[str, Any]]:
        if child not in self._ready:
            self._ready.add(child)
            return [{"kind": "ready", "endpoints": {"tcp": child}, "steps_total": STEPS}]
        if not orders or orders[-1]["kind"] != "generation":
            return []
        number = int(orders[-1]["number"])
        ranks = [member["endpoints"]["tcp"] for member in orders[-1]["members"]]
        if stuck & set(ranks):
            return []
        generation, said = self._said.get(child, (0, ""))
        if generation != number:
            self._said[child] = number, "entered"
            facts = {"start_step": 1, "stall_s": 0.1, "steps_repeated": 0}
            return [{"kind": "entered", "generation": number, **facts}]
        if said == "entered":
            self._said[child] = number, "mark"
            return [{"kind": "mark", **standing(number, number % STEPS)}]
        if said == "finished" or not may_finish:
            return []
        self._said[child] = number, "finished"
        saved = [checkpoint(STEPS, generation=number)] if ranks[0] == child else []
        return [*saved, {"kind": "finished", **standing(number, STEPS)}]


def standing(number: int, step: int, digest: str = "sha256:same") -> dict[str, Any]:
    """The fields of a trainer's mark and of its end."""
    return {
        "generation": number,
        "step": step,
        "epoch": 0,
        "samples": step * 12,
        "loss": 0.5,
        "metrics": {"accuracy": 0.9},
        "state_hash": digest,
        "ledger": [{"epoch": 0, "samples": 1, "distinct": 1, "repeated": 0, "missing": 0}],
    }


def checkpoint(
    step: int, number: int = 0, count: int = 1, *, generation: int = 1, writers: int = 1
) -> dict[str, Any]:
    """What a trainer says that wrote one part of a checkpoint."""
    path = f"/data/{step}" if count == 1 else f"/data/{step}.{number}"
    part = {"number": number, "path": path, "bytes": 10, "seconds": 0.1, "digest": "sha256:part"}
    whole = {"step": step, "count": count, "state_hash": "sha256:same"}
    fence = {"generation": generation, "writers": writers}
    return {"kind": "checkpoint", **fence, **whole, "parts": [part]}


def agreed_checkpoint(peer: str, step: int, generation: int = 1) -> dict[str, Any]:
    """The command by which a checkpoint of one file is in the log."""
    told = checkpoint(step)
    parts = [{**part, "peer": peer} for part in told["parts"]]
    made = {**{name: told[name] for name in ("step", "state_hash", "count")}, "parts": parts}
    fence = {"job": "job-1", "generation": generation}
    return {"type": "job.checkpoint", **fence, "checkpoint": made}
