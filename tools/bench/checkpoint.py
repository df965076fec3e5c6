"""Checkpoints of a large state on one real peer: how fast they are written, and what training pays.

A job trains a stack of square layers with Adam, so that parameters and moments come to about the
wanted size. Speed: bytes of a checkpoint over the time from its copy until it is durable (file and
folder synced), in turns with `dd if=/dev/zero bs=1M conv=fsync` of as many bytes into the same
folder. Cost: the steps per second while checkpoints are written, one as soon as the last is there,
in turns with as long a time without; marks fall into both. Beside it the processor time that the
training thread itself used per step, which a busy machine distorts less. All figures are medians.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.scenarios.trainer_processes import trainers_of
from tools.bench import kills

SPEED_GOAL, COST_GOAL = 0.8, 0.03
BYTES_PER_PARAMETER = 12  # float32, and Adam's two moments
# Each is a request of ours to the peer: more often would take what training and writing need.
WATCH_S = 0.02
TASK = """
import torch


class Stack:
    global_batch, epochs = {batch}, 1000

    def model(self):
        layers = []
        for _ in range({layers}):
            layers += [torch.nn.Linear({width}, {width}), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers)

    def optimizer(self, model):
        return torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def dataset(self, split):
        x = torch.randn(960, {width}, generator=torch.Generator().manual_seed(1))
        return torch.utils.data.TensorDataset(x[:96] if split == "test" else x)

    def loss(self, model, batch):
        (x,) = batch
        return (model(x) - x).square().mean()
"""
WIDTH = 2_048

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--megabytes", type=int, default=1_000, help="of state (1000)")
    parser.add_argument("--batch", type=int, default=192, help="samples per step (192)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (5)")
    parser.add_argument("--saves", type=int, default=4, help="checkpoints of a round (4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    try:
        row = asyncio.run(measure(chosen))
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    for line in in_words(row):
        print(line)
    if chosen.json:
        chosen.json.write_text(json.dumps(row, indent=1) + "\n")
    return 0


def in_words(row: Row) -> list[str]:
    ours, disk = (statistics.median(row[name]) for name in ("ours", "dd"))
    share = statistics.median(a / b for a, b in zip(row["ours"], row["dd"], strict=True))
    without, during = (statistics.median(row[name]) for name in ("without", "during"))
    slower = 1 - statistics.median(
        a / b for a, b in zip(row["during"], row["without"], strict=True)
    )
    cpu_without, cpu_during = (
        statistics.median(row[name]) for name in ("cpu_without", "cpu_during")
    )
    return [
        f"state of {row['bytes'] / 1e6:.0f} MB in {row['parts']} file(s)",
        f"written: {ours / 1e6:.0f} MB/s, dd with fsync {disk / 1e6:.0f} MB/s: {share:.0%} "
        f"(goal {SPEED_GOAL:.0%})",
        f"steps per second: {without:.3f} without, {during:.3f} while written: {slower:+.1%} "
        f"(goal {COST_GOAL:.0%})",
        f"processor time of the training thread per step: {cpu_without:.3f} s without, "
        f"{cpu_during:.3f} s while written: {cpu_during / cpu_without - 1:+.1%}",
    ]


async def measure(chosen: argparse.Namespace) -> Row:
    """Raises P2PError when the job fails or hangs."""
    layers = max(1, round(chosen.megabytes * 1e6 / BYTES_PER_PARAMETER / WIDTH**2))
    source = TASK.format(batch=chosen.batch, layers=layers, width=WIDTH).encode()
    row: Row = {"ours": [], "dd": [], "without": [], "during": [], "bytes": 0, "parts": 1}
    row |= {"cpu_without": [], "cpu_during": []}
    with LocalCluster() as cluster:
        cluster.start()
        client = cluster.client(kills.TIMEOUT_S)
        told = await client.request(
            "submit", task="stack.py:Stack", task_source=source, shards=2, checkpoint_every=10**9
        )
        job = Job(client, str(told["job"]))
        await job.until(lambda told: told["step"] >= 3)
        (job.trainer,) = trainers_of(cluster.peers[0].process.pid)
        await job.save()  # the first one takes the memory for the copy
        for _ in range(chosen.rounds):
            await job.pause()
            row["dd"].append(dd(cluster.folder, row["bytes"] or int(chosen.megabytes * 1e6)))
            await job.resume()
            made, pace = await job.while_saving(chosen.saves)
            row["bytes"], row["parts"] = made[0]["bytes"], made[0]["count"]
            row["ours"].append(statistics.median(one["bytes"] / one["seconds"] for one in made))
            row["during"].append(pace.steps_per_s)
            row["cpu_during"].append(pace.cpu_s)
            pace = await job.pace(pace.seconds)
            row["without"].append(pace.steps_per_s)
            row["cpu_without"].append(pace.cpu_s)
        await client.request("cancel", job=job.id)
        await client.close()
    return row


def dd(folder: Path, size: int) -> float:
    """Bytes per second, until they are durable."""
    path = folder / "dd"
    arguments = ["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size >> 20}", "conv=fsync"]
    began = time.perf_counter()
    subprocess.run(arguments, capture_output=True, check=True)
    taken = time.perf_counter() - began
    path.unlink()
    return (size >> 20 << 20) / taken


@dataclass(frozen=True)
class Moment:
    """A step was just made. `cpu_s` = what the training thread has used until then."""

    step: int
    at_s: float
    cpu_s: float


@dataclass(frozen=True)
class Pace:
    """From one moment to another. `cpu_s` = of the training thread, per step."""

    steps_per_s: float
    cpu_s: float
    seconds: float

    @staticmethod
    def between(first: Moment, last: Moment) -> "Pace":
        steps, seconds = last.step - first.step, last.at_s - first.at_s
        return Pace(steps / seconds, (last.cpu_s - first.cpu_s) / max(1, steps), seconds)


class Job:
    trainer: int  # its process, and so its main thread

    def __init__(self, client: Client, job: str) -> None:
        self._client, self.id = client, job

    async def until(self, is_so: Any) -> Row:
        def or_over(told: Row) -> bool:
            if told["state"] in ("failed", "cancelled", "finished"):
                raise P2PError(f"the job {told['state']}: {told['reason']}")
            return bool(is_so(told))

        return await kills.until(self._client, or_over, "job", every_s=WATCH_S, job=self.id)

    async def save(self) -> Row:
        known = {made["step"] for made in (await self._told())["checkpoints"]}
        await self._client.request("checkpoint", job=self.id)
        told = await self.until(lambda told: {m["step"] for m in told["checkpoints"]} - known)
        made: Row = told["checkpoints"][-1]
        return made

    async def while_saving(self, count: int) -> tuple[list[Row], Pace]:
        """So many checkpoints, and the pace from before the first was asked for until the last is
        there."""
        first = await self._change()
        made = [await self.save() for _ in range(count)]
        return made, Pace.between(first, await self._change())

    async def pace(self, seconds: float) -> Pace:
        """With nothing else; watched as often."""
        first = await self._change()
        ends_s = time.perf_counter() + 0.95 * seconds
        await self.until(lambda told: time.perf_counter() > ends_s)
        return Pace.between(first, await self._change())

    async def pause(self) -> None:
        await self._client.request("pause", job=self.id)
        await self.until(lambda told: told["state"] == "paused")

    async def resume(self) -> None:
        await self._client.request("resume", job=self.id)
        step = (await self._told())["step"]
        await self.until(lambda told: told["step"] > step + 1)

    async def _change(self) -> Moment:
        """The next step."""
        step = (await self._told())["step"]
        told = await self.until(lambda told: told["step"] > step)
        of_thread = Path(f"/proc/{self.trainer}/task/{self.trainer}/schedstat").read_text()
        return Moment(int(told["step"]), time.perf_counter(), int(of_thread.split()[0]) / 1e9)

    async def _told(self) -> Row:
        return await self._client.request("job", job=self.id)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
