"""What p2ptui costs, and how soon it shows what happens: in a pseudo-terminal, at a real cluster.

Eight peers, one of which trains; the screen is attached to one that neither leads nor trains, at
120x40 and once a second. In turns: the peers alone, the peers with a screen (its processor time and
memory, and what the watched peer pays for it). Then a screen with a probe on its loop: how late the
loop is, and how long after something happened at a peer the cell is there that says so. At last
what measuring and judging cost a peer: two idle clusters side by side (tools.bench.measuring).

The terminal is emulated in this process, whose own processor time counts for nobody.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from tools.bench import measuring
from tools.bench.contender import median, percentile
from tools.terminal import Terminal

PEERS, SIZE = 8, (120, 40)
ROUNDS, SECONDS, EVENTS = 3, 20.0, 20
SETTLE_S = 3.0
JOB = {"task": "digits", "epochs": 100_000, "name": "watched"}
P2PTUI = (sys.executable, "-P", "-m", "tui.cli")
GROWTH_MB = 2.0  # what counts as flat: Python's arenas come and go


@dataclass
class Seen:
    """Shares of one core in percent, seconds, and megabytes (10^6 bytes)."""

    first_frame_s: list[float] = field(default_factory=list)
    first_answer_s: list[float] = field(default_factory=list)
    start_cpu_s: list[float] = field(default_factory=list)  # until that answer
    screen_cpu: list[float] = field(default_factory=list)
    growth_mb: list[float] = field(default_factory=list)
    watched_cpu: list[float] = field(default_factory=list)
    alone_cpu: list[float] = field(default_factory=list)
    steps_watched: list[float] = field(default_factory=list)  # per second
    steps_alone: list[float] = field(default_factory=list)
    shown_s: list[float] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    value: float
    unit: str
    goal: float | None = None

    def line(self) -> str:
        digits = 3 if self.unit == "s" else 1 if self.unit == "ms" else 2
        told = f"{self.what:<58} {self.value:9.{digits}f} {self.unit:<9}"
        if self.goal is None:
            return told.rstrip()
        held = "held" if self.value <= self.goal else "MISSED"
        return f"{told} goal {self.goal:g} {self.unit}: {held}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench tui",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", type=int, default=PEERS, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a turn (%(default)s)")
    parser.add_argument("--events", type=int, default=EVENTS, help="to wait for (%(default)s)")
    parser.add_argument("--no-measuring", action="store_true", help="leave the last part out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    try:
        with LocalCluster() as cluster:
            seen = asyncio.run(_watch(cluster, chosen))
        rows = table(seen)
        if not chosen.no_measuring:
            with_it, without = measuring.measured(chosen.peers, chosen.seconds)
            cost = with_it.cpu_percent - without.cpu_percent
            rows.append(Row("measuring and judging, of a core per peer", cost, "%", 2.0))
    except (P2PError, TimeoutError) as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{chosen.peers} peers, {SIZE[0]}x{SIZE[1]}, 1 Hz, load at the end {load}")
    for row in rows:
        print(row.line())
    if chosen.json:
        told = [{"what": r.what, "value": r.value, "unit": r.unit, "goal": r.goal} for r in rows]
        chosen.json.write_text(json.dumps({"schema": 1, "rows": told}, indent=1) + "\n")
    return 0


def table(seen: Seen) -> list[Row]:
    """Pairs of turns are compared, and their median taken: whatever else runs changes slowly."""
    cost = [w - a for w, a in zip(seen.watched_cpu, seen.alone_cpu, strict=True)]
    speed = [w / a for w, a in zip(seen.steps_watched, seen.steps_alone, strict=True) if a > 0]
    return [
        Row("p2ptui, of a core, median of the turns", median(seen.screen_cpu), "%", 8.0),
        Row("first full frame after exec, median", median(seen.first_frame_s), "s", 1.0),
        Row("first answer of the cluster on the screen, median", median(seen.first_answer_s), "s"),
        Row("processor time until then, median", median(seen.start_cpu_s), "s"),
        Row("from an event at a peer to its cell, median", median(seen.shown_s), "s"),
        Row("… 95 % of them", percentile(seen.shown_s, 0.95), "s", 1.2),
        Row("lag of the loop, 99 % of the time", 1e3 * percentile(seen.lag_s, 0.99), "ms", 100.0),
        Row("lag of the loop, worst", 1e3 * max(seen.lag_s, default=float("nan")), "ms"),
        Row("memory, growth over a turn, median", median(seen.growth_mb), "MB", GROWTH_MB),
        Row("the watched peer alone, of a core", median(seen.alone_cpu), "%"),
        Row("what a screen costs it, median of the pairs", median(cost), "%", 1.0),
        Row("training with a screen over training alone", median(speed), "times"),
    ]


async def _watch(cluster: LocalCluster, chosen: argparse.Namespace) -> Seen:
    cluster.start("--slots", "1")
    cluster.start_many(chosen.peers - 1, "--slots", "0")
    client = cluster.client()
    seen = Seen()
    try:
        job = str((await client.request("submit", **JOB))["job"])
        await _until_steps(client, job)
        watched = await _quiet_peer(cluster, client)
        await asyncio.sleep(SETTLE_S)
        for number in range(chosen.rounds):
            await _alone(client, job, watched, chosen.seconds, seen)
            await _with_screen(cluster, client, job, watched, chosen.seconds, seen)
            print(f"round {number + 1}: p2ptui {seen.screen_cpu[-1]:.1f} % of a core", flush=True)
        await _happenings(cluster, client, watched, chosen.events, seen)
    finally:
        await client.close()
    return seen


async def _until_steps(client: Client, job: str) -> None:
    deadline_s = time.monotonic() + 60.0
    while (await client.request("job", job=job))["step"] < 20:
        if time.monotonic() > deadline_s:
            raise P2PError("the job made no steps within 60 s")
        await asyncio.sleep(0.2)


async def _quiet_peer(cluster: LocalCluster, client: Client) -> LocalPeer:
    """One that does not lead, is not asked by us and does not train."""
    leader = (await client.request("status"))["cluster"]["leader"]
    return next(peer for peer in reversed(cluster.peers) if peer.id != leader)


async def _alone(client: Client, job: str, watched: LocalPeer, seconds: float, seen: Seen) -> None:
    peer = psutil.Process(watched.process.pid)
    steps, used_s = await _step(client, job), measuring.used_s(peer)
    began_s = time.monotonic()
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - began_s
    seen.alone_cpu.append(100 * (measuring.used_s(peer) - used_s) / took_s)
    seen.steps_alone.append((await _step(client, job) - steps) / took_s)


async def _step(client: Client, job: str) -> int:
    return int((await client.request("job", job=job))["step"])


async def _with_screen(
    cluster: LocalCluster, client: Client, job: str, watched: LocalPeer, seconds: float, seen: Seen
) -> None:
    with Terminal([*P2PTUI, watched.address], SIZE, cluster.environment) as terminal:
        await _opened(terminal, seen)
        await asyncio.sleep(SETTLE_S)
        peer, screen = psutil.Process(watched.process.pid), psutil.Process(terminal.pid)
        steps, used_s = await _step(client, job), measuring.used_s(peer)
        screen_s, rss, began_s = (
            measuring.used_s(screen),
            screen.memory_info().rss,
            time.monotonic(),
        )
        await asyncio.sleep(seconds)
        took_s = time.monotonic() - began_s
        seen.watched_cpu.append(100 * (measuring.used_s(peer) - used_s) / took_s)
        seen.screen_cpu.append(100 * (measuring.used_s(screen) - screen_s) / took_s)
        seen.growth_mb.append((screen.memory_info().rss - rss) / 1e6)
        seen.steps_watched.append((await _step(client, job) - steps) / took_s)
        terminal.type("q")
        await asyncio.to_thread(terminal.wait)


async def _opened(terminal: Terminal, seen: Seen) -> None:
    """The first full frame has the bars at the top and at the bottom; then come the answers."""
    frame_s = await asyncio.to_thread(
        terminal.until, lambda text: "1 Overview" in text and "q quit" in text
    )
    seen.first_frame_s.append(frame_s - terminal.started_s)
    answer_s = await asyncio.to_thread(
        terminal.until,
        lambda text: "● live" in text and "● running" in text and " events ─" in text,
    )
    seen.first_answer_s.append(answer_s - terminal.started_s)
    seen.start_cpu_s.append(measuring.used_s(psutil.Process(terminal.pid)))


async def _happenings(
    cluster: LocalCluster, client: Client, watched: LocalPeer, count: int, seen: Seen
) -> None:
    """Jobs are submitted that wait for ever: each makes an event, and nothing else."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        lags = Path(folder) / "lags"
        probed = (sys.executable, "-m", "tools.bench.tui_probed", str(lags))
        with Terminal(
            [*probed, watched.address, "--view", "events"], SIZE, cluster.environment
        ) as terminal:
            await asyncio.to_thread(terminal.until, lambda text: "● live" in text)
            await asyncio.sleep(SETTLE_S)
            for number in range(count):
                await asyncio.sleep(rng.uniform(0.2, 1.2))  # any part of an interval
                seen.shown_s.append(await _happening(client, terminal, number))
            terminal.type("q")
            await asyncio.to_thread(terminal.wait)
        seen.lag_s += [float(line) for line in lags.read_text().split()]


async def _happening(client: Client, terminal: Terminal, number: int) -> float:
    """Seconds from the moment at which a peer told of it until it is on the screen."""
    name = f"happening-{number}-{time.monotonic_ns()}"
    waiting = asyncio.create_task(asyncio.to_thread(terminal.until, lambda text: name in text))
    waits = {"epochs": 1, "shards": 99, "peers_min": 99}  # for peers that will not come
    job = (await client.request("submit", task="digits", name=name, **waits))["job"]
    told_s = time.monotonic()
    shown_s = await waiting
    await client.request("cancel", job=job)
    return max(0.0, shown_s - told_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
