"""How fast a job is when one trainer runs slower, and shards move to the others. Real peers.

The ideal is what the trainers' speeds add up to, from the undisturbed rate; with whole shards less
may be possible, which is said. before: measured from the slow-down to the first generation with
other shards, which is how long the cluster takes to notice.

--by stop: the trainer's process is stopped and continued 100 times a second, so that it runs for a
share of the time. Needs a core for each peer. --by sleep: computing is sleeping, longer at the slow
one: so more trainers than cores can be measured.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2p.client import Client
from p2p.control.rebalancing import deal
from p2p.local_cluster import LocalCluster
from p2p.scenarios.trainer_processes import SlowDown, trainers_of
from tools.bench import kills

TASK = """
import os
import time
from torch.utils.data import TensorDataset
from p2p.tasks.digits import Digits

class Large(Digits):
    evaluate = None

    def __init__(self, options):
        self.folder = options.get("folder")
        self.times = float(options["times"])

    def dataset(self, split):
        # So that an epoch has many steps, all but one of them of full size.
        return TensorDataset(*(tensor.repeat(*[50] + [1] * (tensor.dim() - 1))
                               for tensor in super().dataset(split).tensors))

    def loss(self, model, batch):
        if self.folder:
            slow = os.path.exists(f"{self.folder}/{os.getpid()}")
            time.sleep(0.004 * len(batch[1]) * (self.times if slow else 1.0))
        return super().loss(model, batch)
"""
BATCH = {"stop": 1440, "sleep": 120}  # so that computing is most of a step
CYCLE_S = 0.01
GOAL = 0.85
STEPS = 1_000_000  # more than it will make


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench straggler",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", type=int, default=2, help="2 or more (2)")
    parser.add_argument("--by", choices=[*BATCH], default="stop", help="what slows it down (stop)")
    parser.add_argument("--shards", type=int, default=12, help="of the job (12)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (8)")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds for moving (15)")
    parser.add_argument("--share", type=float, default=1 / 3, help="of its speed (1/3)")
    chosen = parser.parse_args(arguments)
    with LocalCluster() as cluster, tempfile.TemporaryDirectory(prefix="p2p-slow-") as folder:
        cluster.start()
        cluster.start_many(chosen.peers - 1)
        return asyncio.run(measure(cluster, Path(folder), chosen))


async def measure(cluster: LocalCluster, folder: Path, chosen: argparse.Namespace) -> int:
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(
        f"{chosen.peers} peers, {chosen.shards} shards, {os.cpu_count()} cores, {load}", flush=True
    )
    client = cluster.client(kills.TIMEOUT_S)
    options = {"times": str(1 / chosen.share)}
    if chosen.by == "sleep":
        options["folder"] = str(folder)
    spec = {"task": "large.py:Large", "task_source": TASK.encode(), "steps": STEPS}
    spec |= {"shards": chosen.shards, "global_batch": BATCH[chosen.by], "options": options}
    try:
        job = str((await client.request("submit", **spec))["job"])
        await kills.until(client, kills.at_share(0.0, chosen.peers), "job", job=job)
        await asyncio.sleep(3.0)
        whole = await rate(client, job, chosen.seconds)
        victim = trainers_of(cluster.peers[-1].process.pid)[0]
        with slowed(victim, folder, chosen):
            began_s = time.monotonic()
            before = await until_moved(client, job, chosen.settle)
            noticed_s = time.monotonic() - began_s
            await asyncio.sleep(chosen.settle)
            after = await rate(client, job, chosen.seconds)
        told = await client.request("job", job=job)
    finally:
        await client.close()
    ideal = whole * (chosen.peers - 1 + chosen.share) / chosen.peers
    possible = best_share(chosen.shards, chosen.peers, chosen.share)
    print(f"undisturbed  {whole:7.1f} steps/s")
    print(f"ideal        {ideal:7.1f} steps/s with one trainer at {chosen.share:.2f} of its speed")
    print(f"possible     {possible * ideal:7.1f} steps/s, {possible:.0%} of it, with whole shards")
    if before is not None:
        print(f"before       {before:7.1f} steps/s, {before / ideal:.0%}, for {noticed_s:.1f} s")
    print(f"balanced     {after:7.1f} steps/s, {after / ideal:.0%} of the ideal split")
    for made in told["generations"][1:]:
        print(f"  generation {made['number']}: {made['reason']}")
    print("goal: 85 % -", "reached" if after >= GOAL * ideal else "missed")
    return 0 if after >= GOAL * ideal else 1


def best_share(shards: int, peers: int, share: float) -> float:
    """Of the ideal rate, what the best split into whole shards can reach."""
    shard_s = [1.0] * (peers - 1) + [1 / share]
    ideal_s = shards / sum(1 / seconds for seconds in shard_s)
    counts = deal(shards, shard_s)
    return ideal_s / max(n * s for n, s in zip(counts, shard_s, strict=True))


@contextmanager
def slowed(pid: int, folder: Path, chosen: argparse.Namespace) -> Iterator[None]:
    """The trainer of that process runs at a share of its speed."""
    if chosen.by == "stop":
        with SlowDown(pid, chosen.share, CYCLE_S):
            yield
    else:
        (folder / str(pid)).touch()
        yield


async def rate(client: Client, job: str, seconds: float) -> float:
    """Steps per second."""
    first, began_s = await step(client, job), time.monotonic()
    await asyncio.sleep(seconds)
    return (await step(client, job) - first) / (time.monotonic() - began_s)


async def until_moved(client: Client, job: str, within_s: float) -> float | None:
    """Steps per second until shards move; None when they do not. A new generation is shown at the
    last mark until it has made a step, so the last that the old one showed counts."""
    told: dict[str, Any] = await client.request("job", job=job)
    generation, first, began_s = told["generation"], int(told["step"]), time.monotonic()
    last, seconds = first, 0.0
    while seconds < within_s:
        await asyncio.sleep(0.05)
        told = await client.request("job", job=job)
        if told["generation"] != generation:
            return (last - first) / seconds if seconds else None
        last, seconds = int(told["step"]), time.monotonic() - began_s
    return None


async def step(client: Client, job: str) -> int:
    return int((await client.request("job", job=job))["step"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
