"""What it costs the others when a peer joins a running job, and how soon a trainer that crashed is
back in the ring. Real peers, one job whose state has the given size.

join: a new peer is started beside the running ones; it imports, builds and loads while they go on.
With a large state (100 MB, say) it gets that, too, before it has a seat. What they lose is the
stall of the generation in which it enters; the goal is two step times and a
tenth of what the state takes over TCP, measured here with plain sockets.
crash: one trainer is killed; from then until a generation with it has made a step.
"""

import argparse
import asyncio
import os
import socket
import statistics
import sys
import threading
import time
from functools import partial
from typing import Any

from p2p.client import Client
from p2p.local_cluster import LocalCluster
from tools.bench import kills

TASK = """
import torch
from torch import nn
from p2p.tasks.digits import Digits

class Wide(Digits):
    def model(self):
        wide, out = nn.Linear(64, {width}), nn.Linear({width}, 10)
        return nn.Sequential(nn.Flatten(), wide, nn.ReLU(), out)
"""
BYTES_PER_UNIT = (64 + 10 + 1) * 4 * 3  # weights and two moments
STEPS = 1_000_000
STEPS_MEASURED = 10
CRASH_GOAL_S = 0.5


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench join",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", type=int, default=2, help="before any joins (2)")
    parser.add_argument("--joins", type=int, default=2)
    parser.add_argument("--crashes", type=int, default=8)
    parser.add_argument("--megabytes", type=float, default=20.0, help="of state (20)")
    chosen = parser.parse_args(arguments)
    with LocalCluster() as cluster:
        cluster.start()
        cluster.start_many(chosen.peers - 1)
        return asyncio.run(measure(cluster, chosen))


async def measure(cluster: LocalCluster, chosen: argparse.Namespace) -> int:
    size = int(chosen.megabytes * 1e6)
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"{chosen.peers} peers, {os.cpu_count()} cores, {load}, {size / 1e6:.0f} MB", flush=True)
    client = cluster.client(kills.TIMEOUT_S)
    try:
        source = TASK.format(width=size // BYTES_PER_UNIT).encode()
        spec = {"task": "wide.py:Wide", "task_source": source, "steps": STEPS}
        job = str((await client.request("submit", **spec))["job"])
        await kills.until(client, kills.at_share(0.0, chosen.peers), "job", job=job)
        goal = await crashes(cluster, client, job, chosen.crashes)
        return int(not all([goal, await joins(cluster, client, job, chosen.joins, size)]))
    finally:
        await client.close()


async def crashes(cluster: LocalCluster, client: Client, job: str, count: int) -> bool:
    back_s: list[float] = []
    victim = cluster.peers[-1].id
    for _ in range(count):
        await asyncio.sleep(1.0)
        before = (await client.request("job", job=job))["generation"]
        at = Client([cluster.peers[-1].address], cluster.key, kills.TIMEOUT_S)
        began_s = time.monotonic()
        await at.request("fault", kind="crash-trainer", peer=victim)
        await at.close()

        def is_back(told: dict[str, Any], before: int = before) -> bool:
            newest = told["generations"][-1]
            stepped = newest["start_step"] is not None and victim in newest["members"]
            return stepped and newest["number"] >= before + 2

        await kills.until(client, is_back, "job", every_s=kills.WATCH_S, job=job)
        back_s.append(time.monotonic() - began_s)
    if not back_s:
        return True
    median, worst = statistics.median(back_s), max(back_s)
    print(
        f"crash: back in the ring after {median:.2f} s (median of {count}), {worst:.2f} s at most"
    )
    return median <= CRASH_GOAL_S


async def joins(cluster: LocalCluster, client: Client, job: str, count: int, size: int) -> bool:
    transfer_s = over_tcp(size)
    print(f"join: {size / 1e6:.0f} MB take {transfer_s:.3f} s over TCP between two threads here")
    reached = True
    for _ in range(count):
        step_s = await seconds_per_step(client, job)
        before = len((await client.request("job", job=job))["generations"])
        peer = await asyncio.to_thread(cluster.start)

        def is_in(told: dict[str, Any], id_: str = peer.id) -> bool:
            newest = told["generations"][-1]
            return newest["start_step"] is not None and id_ in newest["members"]

        told = await kills.until(client, is_in, "job", job=job)
        for each in told["generations"][before:]:
            stood_s = each["stall_seconds"] or 0.0
            print(f"  generation {each['number']}: {stood_s:.3f} s, {each['reason']}")
        stall_s = told["generations"][-1]["stall_seconds"] or 0.0
        goal_s = 2 * step_s + 0.1 * transfer_s
        reached = reached and stall_s <= goal_s
        print(
            f"join: the others stood still for {stall_s:.3f} s; a step takes {step_s:.3f} s, "
            f"the goal is {goal_s:.3f} s",
            flush=True,
        )
    return reached


async def seconds_per_step(client: Client, job: str) -> float:
    """Over so many that a report more or less makes no difference."""

    def has_reached(told: dict[str, Any], step: int) -> bool:
        return int(told["step"]) >= step

    async def at(step: int) -> int:
        told = await kills.until(
            client, partial(has_reached, step=step), "job", every_s=0.05, job=job
        )
        return int(told["step"])

    first = int((await client.request("job", job=job))["step"])
    from_step = await at(first + 1)
    began_s = time.monotonic()
    to_step = await at(from_step + STEPS_MEASURED)
    return (time.monotonic() - began_s) / (to_step - from_step)


def over_tcp(size: int) -> float:
    """Seconds for so many bytes from one thread to another."""
    data = memoryview(bytearray(size))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        began_s = time.monotonic()
        sending = threading.Thread(target=ours.sendall, args=(data,))
        sending.start()
        got, room = 0, bytearray(1 << 20)
        while got < size:
            got += theirs.recv_into(room)
        sending.join()
        return time.monotonic() - began_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
