"""How fast a job is when one trainer runs slower, and shards move to the others.

Real peers; the trainer's process is stopped and continued so that it runs for a share of the time.
ideal: what the trainers' speeds add up to, from the undisturbed rate. before: measured from the
slow-down to the first generation with other shards. Run it with a core for each peer.
"""

import argparse
import asyncio
import os
import sys
import time
from typing import Any

from p2p.client import Client
from p2p.local_cluster import LocalCluster
from tools.bench import kills
from tools.trainer_processes import SlowDown, trainers_of

TASK = """
from p2p.tasks.digits import Digits

class Large(Digits):
    global_batch = 1430  # so that computing is most of a step
"""
GOAL = 0.85
STEPS = 1_000_000  # more than it will make


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench straggler",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", type=int, default=2, help="2 or more (2)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (8)")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds for moving (15)")
    parser.add_argument("--share", type=float, default=1 / 3, help="of the time that it runs (1/3)")
    chosen = parser.parse_args(arguments)
    with LocalCluster() as cluster:
        cluster.start()
        cluster.start_many(chosen.peers - 1)
        return asyncio.run(measure(cluster, chosen))


async def measure(cluster: LocalCluster, chosen: argparse.Namespace) -> int:
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"{chosen.peers} peers, {os.cpu_count()} cores, {load}", flush=True)
    client = cluster.client(kills.TIMEOUT_S)
    try:
        spec = {"task": "large.py:Large", "task_source": TASK.encode(), "steps": STEPS}
        job = str((await client.request("submit", **spec))["job"])
        await kills.until(client, kills.at_share(0.0, chosen.peers), "job", job=job)
        await asyncio.sleep(3.0)
        whole = await rate(client, job, chosen.seconds)
        victim = trainers_of(cluster.peers[-1].process.pid)[0]
        with SlowDown(victim, chosen.share):
            before = await until_moved(client, job, chosen.settle)
            await asyncio.sleep(chosen.settle)
            after = await rate(client, job, chosen.seconds)
        told = await client.request("job", job=job)
    finally:
        await client.close()
    ideal = whole * (chosen.peers - 1 + chosen.share) / chosen.peers
    print(f"undisturbed  {whole:7.1f} steps/s")
    print(f"ideal        {ideal:7.1f} steps/s with one trainer at {chosen.share:.2f} of its speed")
    if before is not None:
        print(f"before       {before:7.1f} steps/s, {before / ideal:.0%} of the ideal split")
    print(f"balanced     {after:7.1f} steps/s, {after / ideal:.0%} of the ideal split")
    for made in told["generations"][1:]:
        print(f"  generation {made['number']}: {made['reason']}")
    print("goal: 85 % -", "reached" if after >= GOAL * ideal else "missed")
    return 0 if after >= GOAL * ideal else 1


async def rate(client: Client, job: str, seconds: float) -> float:
    """Steps per second."""
    first, began_s = await step(client, job), time.monotonic()
    await asyncio.sleep(seconds)
    return (await step(client, job) - first) / (time.monotonic() - began_s)


async def until_moved(client: Client, job: str, within_s: float) -> float | None:
    """Steps per second until shards move; None when they do not."""
    told: dict[str, Any] = await client.request("job", job=job)
    generation, first, began_s = told["generation"], int(told["step"]), time.monotonic()
    while time.monotonic() - began_s < within_s:
        await asyncio.sleep(0.05)
        told = await client.request("job", job=job)
        if told["generation"] != generation:
            return (int(told["step"]) - first) / (time.monotonic() - began_s)
    return None


async def step(client: Client, job: str) -> int:
    return int((await client.request("job", job=job))["step"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
