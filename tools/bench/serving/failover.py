"""How long a stream stands still when its replica, that one's peer, or the peer that was asked is
killed with kill -9; and whether every answer is the same as if nothing had happened.

The gap is what a client sees: the longest time between two pieces of a stream that had to be gone
on with elsewhere. Another replica computes the prompt and all ids of the answer anew in it.
"""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from p2p.client import Client
from p2p.local_cluster import LocalPeer
from tools.bench.serving.cluster import Serving, is_settled, replica_pids, replicas_of
from tools.bench.serving.figures import HEADS, Goal, Part, spread, told
from tools.bench.serving.replica import LONG

STREAMS, TOKENS = 8, 400
KILLED_AFTER = (40, 200)  # ids of the slowest stream
GOAL_S = 0.5
SEED = 7
WATCH_S = 0.002
KINDS = {"replica": "its replica", "peer": "its replica's peer", "front": "the peer asked"}


@dataclass(slots=True)
class Stream:
    """When its pieces came, and from whom."""

    prompt: str
    asked: Any = None  # a p2p.generation.Generation
    came_s: list[float] = field(default_factory=list)

    async def read(self, client: Client, service: str, seed: int) -> None:
        options = {"max_tokens": TOKENS, "temperature": 1.0, "seed": seed}
        self.asked = client.generate(self.prompt, model=service, **options)
        async for _ in self.asked:
            self.came_s.append(time.monotonic())

    def gap_s(self, after_s: float = 0.0) -> float:
        """The longest between two pieces, of which the second came after that."""
        pairs = zip(self.came_s, self.came_s[1:], strict=False)
        return max((b - a for a, b in pairs if b > after_s), default=0.0)


def measure(serving: Serving, chosen: argparse.Namespace) -> Part:
    """All kinds of deaths in turns."""
    rng = random.Random(SEED)
    gaps: dict[str, list[float]] = {kind: [] for kind in KINDS}
    problems = []
    with serving.served(LONG, 2) as service:
        undisturbed = asyncio.run(_answered(serving, service))[0]
        expected = [stream.asked.told_ids for stream in undisturbed]
        for _ in range(chosen.kills):
            for kind in KINDS:
                death = Death(serving, kind, rng.randint(*KILLED_AFTER))
                streams, hit = asyncio.run(_answered(serving, service, death))
                gaps[kind] += [stream.gap_s(death.killed_s) for stream in hit]
                if [stream.asked.told_ids for stream in streams] != expected:
                    problems.append(f"kill of {KINDS[kind]}: an answer is another one")
                death.repair(service)
    usual = spread([stream.gap_s() for stream in undisturbed])
    lines = [f"{'longest pause of a stream, ms':30}{HEADS}{'streams':>9}"]
    rows = []
    for name, found in {"undisturbed": usual, **{k: spread(v) for k, v in gaps.items()}}.items():
        shown = f"kill -9 of {KINDS[name]}" if name in KINDS else name
        lines.append(f"{shown:30}{told(found, 1e3, 0)}{found['of']:9.0f}")
        rows.append({"kind": name, "gap_s": found})
    goals = [
        Goal(f"kill -9 of {KINDS[kind]}: the gap", spread(each)["median"], GOAL_S, "s")
        for kind, each in gaps.items()
    ]
    return Part(rows, goals, lines, problems)


class Death:
    """One kill -9, once every stream has so many ids."""

    def __init__(self, serving: Serving, kind: str, after: int) -> None:
        self._serving, self._kind, self._after = serving, kind, after
        self._victim: LocalPeer | None = None
        self.killed_s = 0.0

    async def strike(self, streams: list[Stream]) -> list[Stream]:
        """The streams that are hit: they were not at their end."""
        while any(s.asked is None or len(s.asked.told_ids) < self._after for s in streams):
            await asyncio.sleep(WATCH_S)
        running = [stream for stream in streams if stream.asked.end is None]
        victim = self._serving.front
        if self._kind != "front":
            answering = running[0].asked.answering["peer"]
            victim = next(peer for peer in self._serving.hosts if peer.id == answering)
            running = [s for s in running if s.asked.answering["peer"] == answering]
        replicas = [psutil.Process(pid) for pid in replica_pids(victim)]
        self.killed_s = time.monotonic()
        if self._kind == "replica":
            replicas[0].kill()
        else:
            self._victim = victim
            victim.kill()
        return running

    def repair(self, service: str) -> None:
        """Until all is as before."""
        serving = self._serving
        if self._victim is not None:
            (back,) = serving.cluster.restart(self._victim)
            serving.hosts = [back if peer is self._victim else peer for peer in serving.hosts]
            serving.front = back if serving.front is self._victim else serving.front
        serving.wait("status", is_settled)
        serving.wait("models", lambda told: len(replicas_of(told, service)) == 2)


async def _answered(
    serving: Serving, service: str, death: Death | None = None
) -> tuple[list[Stream], list[Stream]]:
    """All streams, and those that were hit."""
    peers = [serving.front, *serving.hosts]
    client = Client([peer.address for peer in peers], serving.cluster.key, 20.0)
    streams = [Stream(f"def f{number}(") for number in range(STREAMS)]
    try:
        reading = [stream.read(client, service, n) for n, stream in enumerate(streams)]
        if death is None:
            await asyncio.gather(*reading)
            return streams, []
        *_, hit = await asyncio.gather(*reading, death.strike(streams))
        assert hit is not None
        return streams, hit
    finally:
        await client.close()
