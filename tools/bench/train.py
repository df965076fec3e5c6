"""Samples per second of a training job on real peers, beside DistributedDataParallel over gloo or
(--against loop, one process) a plain PyTorch loop over the same shards.

Both train the same model with the same optimizer and global batch, on the same number of processes
with one thread each, and take turns: our job is paused while the rival runs, which waits while ours
does.
A figure of ours is what a client sees: the time between two changes of the step count that a
peer tells. The table has the medians over the rounds and the median of the rounds' ratios. CPU is
what the trainers (without their peers), or the rival's processes, used of the processors, in ms per
step: on a busy machine that says more than the time that passed; `more` is the difference. Most of
a step of digits is overhead, PyTorch's or ours; conv and gpt have the proportions that people
train.

DDP computes a rank's part of the batch in one go and averages in float32; ours computes every shard
by itself and sums order-free, which is what makes the weights independent of who was there.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.scenarios.trainer_processes import trainers_of
from tools.bench import kills
from tools.bench.rivals.ddp import Ddp
from tools.bench.rivals.loop import Loop

GOALS = {"ddp": 1.1, "loop": 0.97}
AS_PROCESSES = "processes"
WATCH_S = 0.005
CPU_TIME_OF_PROCESS = 2  # CPUCLOCK_SCHED of Linux: what its scheduler counted
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"task": "digits", "global_batch": 60},
    "conv": {
        "task": "convnet.py:ConvNet",
        "task_source": Path(__file__).with_name("convnet.py").read_bytes(),
        "global_batch": 24,
    },
    "gpt": {
        "task": "textgpt",
        "global_batch": 24,
        "options": {"width": "320", "layers": "8", "heads": "8", "context": "128"},
    },
}
STEPS_NEVER_REACHED = 1_000_000

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--against", choices=[*GOALS], default="ddp", help="the rival (ddp)")
    parser.add_argument("--tasks", default="digits,conv,gpt", help="of %(default)s")
    parser.add_argument("--processes", help="how many at a time (2,3; with a loop: 1)")
    parser.add_argument(
        "--shards",
        default=f"6,{AS_PROCESSES}",
        help=f"of our jobs, a table for each; {AS_PROCESSES} = one per process (%(default)s)",
    )
    parser.add_argument("--strategy", default="ring")
    parser.add_argument("--codec", default="int32")
    parser.add_argument("--rounds", type=int, default=5, help="of each (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round, about (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    tasks = chosen.tasks.split(",")
    if not set(tasks) <= set(TASKS):
        parser.error(f"--tasks {chosen.tasks}: there are {', '.join(TASKS)}")
    told = chosen.processes or {"ddp": "2,3", "loop": "1"}[chosen.against]
    counts = [int(word) for word in told.split(",")]
    if chosen.against == "loop" and counts != [1]:
        parser.error(f"--processes {told}: a plain loop has one process")
    shards = chosen.shards.split(",")
    if not all(word == AS_PROCESSES or (word.isdecimal() and int(word)) for word in shards):
        parser.error(f"--shards {chosen.shards}: numbers, or {AS_PROCESSES}")
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"{chosen.strategy}, {chosen.codec}; samples per second, CPU ms per step; {load}")
    print(f"{'task':<8} {'processes':>9} {'shards':>6} {'ours':>9} {chosen.against:>9} "
          f"{'ratio':>6} {'CPU':>8} {chosen.against:>8} {'more':>8} {'ratio':>6}  of the "
          "rounds")  # fmt: skip
    rows = []
    for word, task, count in itertools.product(shards, tasks, counts):
        dealt = count if word == AS_PROCESSES else int(word)
        try:
            rows.append(asyncio.run(measure(task, count, dealt, chosen)))
        except P2PError as error:
            print(f"PROBLEM: {task} on {count}: {error}", file=sys.stderr)
            return 1
        print(_line(rows[-1]), flush=True)
    print(f"goal: at least {GOALS[chosen.against]}")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _line(row: Row) -> str:
    ratios, cpu = (" ".join(f"{one:.3f}" for one in row[name]) for name in ("ratios", "cpu_ratios"))
    return (
        f"{row['task']:<8} {row['processes']:>9} {row['shards']:>6} {row['ours']:>9.1f} "
        f"{row['rival']:>9.1f} {row['ratio']:>6.3f} {row['cpu_ms']:>8.3f} "
        f"{row['rival_cpu_ms']:>8.3f} {row['cpu_ms'] - row['rival_cpu_ms']:>8.3f} "
        f"{row['cpu_ratio']:>6.3f}  {ratios}; CPU {cpu}"
    )


async def measure(task: str, count: int, shards: int, chosen: argparse.Namespace) -> Row:
    """One row of the table. Raises P2PError when the job fails or hangs."""
    spec = TASKS[task]
    batch = spec["global_batch"]
    other = Loop(spec, shards) if chosen.against == "loop" else Ddp(spec, count)
    with LocalCluster() as cluster, other as rival:
        cluster.start()
        cluster.start_many(count - 1)
        await kills.settle(cluster, count)
        job = await Job.submit(cluster, {**spec, "shards": shards, **_ours(chosen)}, count)
        trainers = [pid for peer in cluster.peers for pid in trainers_of(peer.process.pid)]
        steps = max(1, int(chosen.seconds / rival.run(1).seconds))
        steps = max(1, int(chosen.seconds * steps / rival.run(steps).seconds))
        ours, theirs = [], []
        for _ in range(chosen.rounds):
            took = rival.run(steps)
            theirs.append((steps / took.seconds, took.cpu_s / steps))
            rate, used = await job.rates(chosen.seconds, lambda: sum(map(used_s, trainers)))
            ours.append((rate, used / rate))
        await job.close()
    ratios = [one / other for (one, _), (other, _) in zip(ours, theirs, strict=True)]
    cpu_ratios = [other / one for (_, one), (_, other) in zip(ours, theirs, strict=True)]
    return {
        "task": task,
        "processes": count,
        "shards": shards,
        "ours": batch * statistics.median(rate for rate, _ in ours),
        "rival": batch * statistics.median(rate for rate, _ in theirs),
        "ratio": statistics.median(ratios),
        "cpu_ms": 1e3 * statistics.median(used for _, used in ours),
        "rival_cpu_ms": 1e3 * statistics.median(used for _, used in theirs),
        "cpu_ratio": statistics.median(cpu_ratios),
        "ratios": ratios,
        "cpu_ratios": cpu_ratios,
    }


def used_s(pid: int) -> float:
    """Of the processors, by all threads of that process (clock_getcpuclockid of the C library)."""
    return time.clock_gettime(~pid << 3 | CPU_TIME_OF_PROCESS)


def _ours(chosen: argparse.Namespace) -> dict[str, Any]:
    choice = {"strategy": chosen.strategy, "codec": chosen.codec}
    return {"steps": STEPS_NEVER_REACHED, **choice}


class Job:
    """Ours: paused between the measurements."""

    def __init__(self, client: Client, job: str) -> None:
        self._client, self._job = client, job

    @classmethod
    async def submit(cls, cluster: LocalCluster, spec: Row, count: int) -> "Job":
        client = cluster.client(kills.TIMEOUT_S)
        told = await client.request("submit", **spec, peers_min=count, peers_max=count)
        job = cls(client, str(told["job"]))
        await job._until(lambda told: told["step"] >= 2)
        await job._pause()
        return job

    async def rates(self, seconds: float, counter: Callable[[], float]) -> tuple[float, float]:
        """Steps per second between two changes of the step that are about so far apart, and by how
        much `counter` grew per second meanwhile."""
        await self._client.request("resume", job=self._job)
        before = (await self._asked())["step"]
        # The first step after a pause waits for the new generation: count from the second on.
        first = await self._until(lambda told: told["step"] > before + 1)
        from_s, counted = time.perf_counter(), counter()
        while time.perf_counter() < from_s + seconds:
            await asyncio.sleep(0.05)
        seen = (await self._asked())["step"]
        last = await self._until(lambda told: told["step"] > seen)
        passed_s, counted = time.perf_counter() - from_s, counter() - counted
        await self._pause()
        return (last["step"] - first["step"]) / passed_s, counted / passed_s

    async def close(self) -> None:
        await self._client.request("cancel", job=self._job)
        await self._client.close()

    async def _pause(self) -> None:
        await self._client.request("pause", job=self._job)
        await self._until(lambda told: told["state"] == "paused")

    async def _asked(self) -> Row:
        return await self._client.request("job", job=self._job)

    async def _until(self, is_so: Any) -> Row:
        def or_over(told: Row) -> bool:
            if told["state"] in ("failed", "cancelled", "finished"):
                raise P2PError(f"the job {told['state']}: {told['reason']}")
            return bool(is_so(told))

        return await kills.until(self._client, or_over, "job", every_s=WATCH_S, job=self._job)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
