"""How soon a collective ends after an abort or `kill -9` of a rank, and what is left behind.

Real processes. Each link has its own table row: generations that one rank aborts at a random moment
of an all-reduce (its own time until the operation raised, and the others', who are not told and see
it leave), then as many kills as asked for, where a rank dies by SIGKILL at a random moment and the
survivors' times until they raise count. Every operation's input is compared with what it was. What
a rank holds (descriptors, threads, mappings of segments, resident memory) is counted after a tenth
of the aborts and after all.
"""

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from collectives.errors import Aborted
from collectives.plane import CurveKeys
from tools.bench import ranks
from tools.bench.contender import percentile
from tools.bench.linked import LINKS, Linked, fresh_keys

ELEMENTS = 1 << 20  # float32: 4 MB, a few milliseconds, so that most aborts hit one in progress
DELAY_MAX_S = 0.01
SETTLED_S, SETTLING_MAX_S = 0.5, 10.0
COUNTED = ("fds", "threads", "segments")
Held = dict[str, float]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench aborts", description=__doc__)
    parser.add_argument("--links", default=",".join(LINKS), help=",".join(LINKS))
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--aborts", type=int, default=1000, help="for each link (1000)")
    parser.add_argument("--kills", type=int, default=20, help="for each link (20)")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    links = chosen.links.split(",")
    if unknown := set(links) - set(LINKS):
        parser.error(f"no {', '.join(sorted(unknown))}: there are {', '.join(LINKS)}")
    print(f"{chosen.processes} ranks, {ELEMENTS * 4 >> 20} MB; ms; load {os.getloadavg()[0]:.1f}")
    print("link   what           times   median      p95      max   per rank: fds, threads, MB")
    clean = True
    for link in links:
        told = _generations(link, chosen.processes, chosen.aborts, chosen.seed)
        clean &= all(one["late"][key] <= one["early"][key] for one in told for key in COUNTED)
        clean &= all(one["intact"] for one in told)
        left = "; ".join(_change(one["early"], one["late"]) for one in told)
        print(_row(link, "own abort", told[0]["seconds"]) + f"   {left}")
        print(_row(link, "other's abort", [s for one in told[1:] for s in one["seconds"]]))
        rng = random.Random(chosen.seed)
        killed = [_kill(link, chosen.processes, rng) for _ in range(chosen.kills)]
        if killed:
            print(_row(link, "kill -9", [s for of in killed for s in of]), flush=True)
    print("nothing was left behind" if clean else "NOT CLEAN: something was left or input changed")
    return 0 if clean else 1


def _row(link: str, what: str, seconds: Sequence[float]) -> str:
    taken = sorted(s * 1e3 for s in seconds)
    p95 = percentile(taken, 0.95)
    numbers = f"{statistics.median(taken):8.2f} {p95:8.2f} {taken[-1]:8.2f}"
    return f"{link:6} {what:13} {len(taken):6} {numbers}"


def _change(early: Held, late: Held) -> str:
    names = (*COUNTED[:2], "mb")
    return ", ".join(f"{early[name]:.0f}→{late[name]:.0f}" for name in names)


def _held() -> Held:
    """What this process has now."""
    status = Path("/proc/self/status").read_text().split("VmRSS:")[1]
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "segments": Path("/proc/self/maps").read_text().count("memfd:p2p"),
        "mb": int(status.split()[0]) / 1024,
    }


def _settled() -> Held:
    """What it holds once that no longer changes: libzmq closes sockets behind our back."""
    until_s = time.monotonic() + SETTLING_MAX_S
    held, since_s = _held(), time.monotonic()
    while time.monotonic() < min(until_s, since_s + SETTLED_S):
        time.sleep(0.05)
        newest = _held()
        if any(newest[key] != held[key] for key in COUNTED):
            held, since_s = newest, time.monotonic()
    return held


def _generations(link: str, count: int, aborts: int, seed: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        keys = fresh_keys()
        plans = [(rank, link, folder, keys, aborts, seed) for rank in range(count)]
        with ranks.started(abort_again_and_again, plans) as pipes:
            ranks.introduce(pipes)
            for _ in range(aborts):
                # The moment of the abort by the clock that all processes of a host share.
                aborted_s = max(pipe.recv() for pipe in pipes)
                for pipe in pipes:
                    pipe.send(aborted_s)
            return [pipe.recv() for pipe in pipes]


class Member:
    """A rank that has met the others."""

    def __init__(
        self, rank: int, link: str, folder: str, keys: CurveKeys, parent: Connection
    ) -> None:
        self.linked = Linked(link, rank, folder, keys)
        self.plane = self.linked.plane
        parent.send(self.plane.endpoints)
        self.linked.meet(parent.recv())
        self.source = np.full(ELEMENTS, rank + 1, np.float32)
        self.out = np.empty_like(self.source)

    def abort(self, generation: int, entered: threading.Event, delay_s: float) -> float:
        """From a second thread, as a peer's order is carried out; returns when."""
        entered.wait()
        time.sleep(delay_s)
        aborted_s = time.monotonic()
        self.plane.abort(generation + 1)
        return aborted_s

    def until_aborted(self, generation: int, entered: threading.Event) -> float:
        """All-reduce again and again; returns when the last one raised."""
        try:
            group = self.linked.enter(generation)
            group.barrier()
            entered.set()
            while True:
                group.all_reduce(self.source, self.out, "sum")
        except Aborted:
            return time.monotonic()
        finally:
            entered.set()


def abort_again_and_again(
    rank: int, link: str, folder: str, keys: CurveKeys, aborts: int, seed: int, parent: Connection
) -> None:
    """One rank; rank 0 is the one that aborts."""
    member = Member(rank, link, folder, keys, parent)
    rng = random.Random(seed)
    seconds: list[float] = []
    early: Held = {}
    with ThreadPoolExecutor(1) as second_thread:
        for number in range(1, aborts + 1):
            entered, generation = threading.Event(), 2 * number
            order = (generation, entered, rng.random() * DELAY_MAX_S)
            aborting = second_thread.submit(member.abort, *order) if rank == 0 else None
            ended_s = member.until_aborted(generation, entered)
            parent.send(aborting.result() if aborting else 0.0)
            # Alone now: that rank 0 left is what ends the generation for the others.
            member.linked.enter(generation + 1, alone=True)
            seconds.append(max(0.0, ended_s - parent.recv()))
            if number == max(1, aborts // 10):
                early = _settled()
    intact = bool((member.source == rank + 1).all())
    parent.send({"seconds": seconds, "early": early, "late": _settled(), "intact": intact})
    member.plane.close()


def _kill(link: str, count: int, rng: random.Random) -> list[float]:
    """Seconds from SIGKILL of the last rank to each survivor's end."""
    with tempfile.TemporaryDirectory() as folder:
        keys = fresh_keys()
        plans = [(rank, link, folder, keys) for rank in range(count)]
        with ranks.started(run_until_killed, plans) as pipes:
            ranks.introduce(pipes)
            pids = [pipe.recv() for pipe in pipes]
            time.sleep(rng.random() * DELAY_MAX_S)
            killed_s = time.monotonic()
            os.kill(pids[-1], signal.SIGKILL)
            return [pipe.recv() - killed_s for pipe in pipes[:-1]]


def run_until_killed(
    rank: int, link: str, folder: str, keys: CurveKeys, parent: Connection
) -> None:
    member = Member(rank, link, folder, keys, parent)
    entered = threading.Event()

    def tell() -> None:
        entered.wait()
        parent.send(os.getpid())

    threading.Thread(target=tell).start()
    parent.send(member.until_aborted(1, entered))
    member.plane.close()
