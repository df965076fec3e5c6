"""Trainers as in-memory twins: they say hello, catch up, give their shards, apply, mark and finish,
abort when a newer order comes and step only while they hold a lease, as the real ones do.

They play p2p.processes.MemoryChildren; what must hold between them is in tools.sim.ring.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2p.checkpoints.names import name_of, written_by
from p2p.checkpoints.shelf import MemoryShelf
from p2p.processes import MemoryChildren
from tools.sim.ring import SHARDS, File, History, Ring
from tools.sim.trainers import standing

STEPS = 4_000  # more than a run makes before its trainers may finish
MARK_EVERY = 20
SAVE_EVERY = 60
CRASH, HANG = 0.0005, 0.0001  # in each turn
PROGRESS_EVERY = 10
SLOWNESS = (1.0, 1.0, 1.0, 3.0)  # times as long for a shard as usual
SHARD_S = 0.01

Say = Callable[[str, dict[str, Any]], None]
End = Callable[[str, str], None]


@dataclass
class _Twin:
    job: str
    entered: int = 0  # the newest generation in which it has applied a step or caught up
    greeted: int = 0
    given: tuple[int, int] | None = None  # generation and step that wait for the others
    said_entered: int = 0
    finished: int = 0
    hangs: bool = False
    rank: int = 0  # in the generation greeted last
    asks: int = 0  # wishes for a checkpoint heard, and how many the last one answered
    answered: int = 0
    slowness: float = 1.0


class Twins:
    """Of one process of a peer; they end with it. `clock` gives monotonic seconds of that host."""

    def __init__(self, host: str, children: MemoryChildren, ring: Ring, rng: random.Random) -> None:
        self._host, self._children, self._ring, self._rng = host, children, ring, rng
        self._twins: dict[str, _Twin] = {}

    def close(self) -> None:
        """The process is gone, and all of them with it."""
        for child in self._twins:
            self._ring.living.pop(child, None)
        self._twins.clear()

    def play(self, say: Say, end: End, may_finish: bool, now_s: float) -> None:
        """Every trainer does one thing."""
        for child, orders in list(self._children.told.items()):
            twin = self._twins.get(child)
            stopped = any(order["kind"] == "stop" for order in orders)
            draw = self._rng.random()
            hangs = twin is not None and twin.hangs
            if child in self._children.killed or (stopped and not hangs) or draw < CRASH:
                self._end(child, end)
            elif twin is None:
                self._begin(child, say)
            elif draw < CRASH + HANG:
                twin.hangs = True
                say(child, self._pulse(twin, child))
            elif not hangs:
                self._next(child, twin, orders, say, may_finish, now_s)

    def _pulse(self, twin: _Twin, child: str) -> dict[str, Any]:
        step = self._ring.living[child].step
        return {"kind": "pulse", "doing": "gradients", "step": step, "for_s": 0.0, "usual_s": 0.1}

    def _end(self, child: str, end: End) -> None:
        self._children.end(child)
        self._twins.pop(child, None)
        self._ring.living.pop(child, None)
        end(child, "")

    def _begin(self, child: str, say: Say) -> None:
        job = str(self._children.started[child]["job"]["id"])
        self._twins[child] = _Twin(job, slowness=self._rng.choice(SLOWNESS))
        self._ring.living[child] = History()
        ready = {"endpoints": {"tcp": child}, "steps_total": STEPS, "step": 0}
        say(child, {"kind": "ready", **ready})

    def _next(
        self,
        child: str,
        twin: _Twin,
        orders: list[Mapping[str, Any]],
        say: Say,
        may_finish: bool,
        now_s: float,
    ) -> None:
        heard = [order for order in orders if order["kind"] in ("generation", "hold")]
        asks = [int(order["number"]) for order in orders if order["kind"] == "checkpoint"]
        twin.asks = max(asks, default=0)
        if not heard or heard[-1]["kind"] != "generation":
            if twin.asks > twin.answered and twin.entered and twin.rank == 0:
                self._save(child, twin, twin.entered, 1, 1, say)
            return
        order = heard[-1]
        number = int(order["number"])
        ranks = [str(member["endpoints"]["tcp"]) for member in order["members"]]
        if child not in ranks:
            return
        rank = ranks.index(child)
        if twin.greeted < number:
            twin.greeted, twin.given, twin.rank = number, None, rank
            paths = [part["path"] for made in order["checkpoints"] for part in made["parts"]]
            self._ring.hello(twin.job, number, rank, child, paths)
        elif twin.entered < number:
            if self._ring.caught_up(twin.job, number, len(ranks), child):
                twin.entered = number
        elif self._children.leased_s.get(child, 0.0) > now_s:
            self._step(child, twin, order, rank, say, may_finish)

    def _step(
        self,
        child: str,
        twin: _Twin,
        order: Mapping[str, Any],
        rank: int,
        say: Say,
        may_finish: bool,
    ) -> None:
        ring, number, trainers = self._ring, int(order["number"]), len(order["members"])
        history = ring.living[child]
        step = history.step
        if step >= STEPS:
            self._finish(child, twin, number, trainers, say)
        elif twin.given != (number, step):
            to = STEPS if may_finish else min(step + 1, STEPS - 1)
            if to > step:
                twin.given = number, step
                lo, hi = order["shards"][rank]
                ring.give(twin.job, number, rank, step, to, (int(lo), int(hi)))
        elif (done := ring.complete(twin.job, number, step)) is not None:
            for each in range(step, done):
                history.append(each)
            ring.check(twin.job, child)
            self._tell(child, twin, number, step, say)
            if history.step // SAVE_EVERY > step // SAVE_EVERY:
                self._save(child, twin, number, trainers, trainers, say)
            elif rank == 0 and twin.asks > twin.answered:
                self._save(child, twin, number, 1, 1, say)

    def _tell(self, child: str, twin: _Twin, number: int, before: int, say: Say) -> None:
        history = self._ring.living[child]
        if twin.said_entered < number:
            twin.said_entered = number
            facts = {"start_step": before, "stall_s": 0.1, "steps_repeated": 0}
            say(child, {"kind": "entered", "generation": number, **facts})
        if history.step // MARK_EVERY > before // MARK_EVERY:
            say(child, {"kind": "mark", **told(number, history)})
        if history.step // PROGRESS_EVERY > before // PROGRESS_EVERY:
            pace = [[SHARD_S * twin.slowness, SHARD_S * SHARDS]] * 2
            so_far = {"generation": number, "step": history.step, "samples_per_second": 1.0}
            say(child, {"kind": "progress", **so_far, "pace": pace})

    def _save(
        self, child: str, twin: _Twin, number: int, count: int, writers: int, say: Say
    ) -> None:
        """Its parts of `count`; of a single one, as one of the first `writers`."""
        history = self._ring.living[child]
        twin.answered = twin.asks
        parts = []
        for part in written_by(twin.rank, writers, whole=count == 1):
            path = f"/{self._host}/{twin.job}/{name_of(history.step, part, count)}"
            self._ring.files[path] = File(history.step, history.digest, count, part)
            digest = f"sha256:{history.digest:x}.{part}"
            facts = {"path": path, "bytes": 10, "seconds": 0.1, "digest": digest}
            parts.append({"number": part, **facts})
        fence = {"generation": number, "writers": writers, "asks": twin.asks}
        whole = {"step": history.step, "count": count, "state_hash": digest_of(history)}
        say(child, {"kind": "checkpoint", **fence, **whole, "parts": parts})

    def _finish(self, child: str, twin: _Twin, number: int, trainers: int, say: Say) -> None:
        if twin.finished == number:
            return
        twin.finished = number
        history = self._ring.living[child]
        if twin.said_entered < number:
            twin.said_entered = number
            facts = {"start_step": history.step, "stall_s": None, "steps_repeated": 0}
            say(child, {"kind": "entered", "generation": number, **facts})
        self._save(child, twin, number, 1, trainers, say)
        say(child, {"kind": "finished", **told(number, history)})


class RingShelf(MemoryShelf):
    """What a host's disk has of checkpoints: it stays when the process ends."""

    def __init__(self, host: str, ring: Ring) -> None:
        super().__init__()
        self._host, self._ring = host, ring
        for job in sorted({path.split("/")[2] for path in ring.files}):
            self.look(job)

    def look(self, job: str) -> None:
        for path, file in self._ring.files.items():
            if path.split("/")[1:3] == [self._host, job]:
                self.add(path, job, file.step)

    def remove(self, path: str) -> None:
        super().remove(path)
        self._ring.files.pop(path, None)


def digest_of(history: History) -> str:
    return f"sha256:{history.digest:x}"


def told(number: int, history: History) -> dict[str, Any]:
    """A mark, with a ledger that says how many steps there were: one sample each."""
    row = {"epoch": 1, "samples": history.step, "distinct": history.step}
    ledger = [{**row, "repeated": 0, "missing": 0}]
    return {**standing(number, history.step, digest_of(history)), "ledger": ledger}
