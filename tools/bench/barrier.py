"""How long a barrier takes: from the moment the last rank comes to it until all are released.

Real processes on one host, over shared memory and over encrypted TCP as between hosts. Before each
barrier every rank computes for another random time, as trainers do; all read the same clock. The
round before the barrier counts as little as who comes first: only what the barrier itself costs.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection

import numpy as np

from collectives.plane import CurveKeys
from tools.bench import ranks
from tools.bench.contender import percentile
from tools.bench.linked import Linked, fresh_keys
from tools.bench.notices import compute

GOAL_S = 0.005
LINKS = ("shm", "curve")
Moments = list[tuple[float, float]]  # when this rank came, and when it was released


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench barrier", description=__doc__)
    parser.add_argument("--processes", type=int, default=4, help="that meet (4)")
    parser.add_argument("--barriers", type=int, default=1000, help="over each kind of link (1000)")
    parser.add_argument("--work", type=float, default=1.0, help="ms between two, on average (1)")
    chosen = parser.parse_args(arguments)
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{chosen.processes} ranks, {chosen.barriers} barriers, {load}; milliseconds")
    print(f"{'link':<6} {'median':>8} {'p95':>8} {'p99':>8} {'max':>8}")
    reached = True
    for link in LINKS:
        taken = [1e3 * s for s in measure(link, chosen)]
        p99 = percentile(taken, 0.99)
        reached = reached and p99 <= 1e3 * GOAL_S
        print(
            f"{link:<6} {statistics.median(taken):>8.3f} {percentile(taken, 0.95):>8.3f} "
            f"{p99:>8.3f} {max(taken):>8.3f}",
            flush=True,
        )
    print(f"goal: p99 at most {1e3 * GOAL_S:g} ms - {'reached' if reached else 'missed'}")
    return 0 if reached else 1


def measure(link: str, chosen: argparse.Namespace) -> list[float]:
    """Seconds of each barrier."""
    keys = fresh_keys()
    with tempfile.TemporaryDirectory() as folder:
        plans = [
            (rank, link, folder, keys, chosen.barriers, chosen.work * 1e-3)
            for rank in range(chosen.processes)
        ]
        with ranks.started(work, plans) as pipes:
            ranks.introduce(pipes)
            told: list[Moments] = [pipe.recv() for pipe in pipes]
    return lasted(told)


def lasted(told: list[Moments]) -> list[float]:
    """Of each barrier, by every rank's moments: from the last arrival to the last release."""
    return [
        max(released for _, released in each) - max(came for came, _ in each)
        for each in zip(*told, strict=True)
    ]


def work(
    rank: int,
    link: str,
    folder: str,
    keys: CurveKeys,
    barriers: int,
    seconds: float,
    parent: Connection,
) -> None:
    """One rank."""
    linked = Linked(link, rank, folder, keys)
    parent.send(linked.plane.endpoints)
    linked.meet(parent.recv())
    group = linked.enter()
    rng, matrix = random.Random(rank), np.ones(256)
    moments: Moments = []
    for number in range(barriers + 1):
        compute(rng.uniform(0.0, 2 * seconds), matrix)
        came_s = time.monotonic()
        group.barrier()
        if number:  # the first one connects
            moments.append((came_s, time.monotonic()))
    parent.send(moments)
    group.all_gather(b"")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
