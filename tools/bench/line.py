"""What codecs are worth on a slow line: the step rate of a GPT between two network namespaces.

Two real peers, one per namespace, joined by a line that a token bucket limits in each direction.
Every codec trains the same job in turns. The ratio is that of the step rates to the first codec's.
"line" is what share of the limit left this end, counted by the kernel over the whole measurement,
so with the time in which trainers compute and the line has nothing to do. Needs root.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.bench import kills
from tools.bench.namespaces import ADDRESSES, Line
from tools.bench.train import Job

GOALS = {"bf16": 1.9, "int8": 3.5}
SPEC: dict[str, Any] = {
    "task": "textgpt",
    "global_batch": 2,
    "shards": 2,
    "steps": 1_000_000,
    "options": {"width": "320", "layers": "8", "heads": "8", "context": "64"},
}

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench line",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--codecs", default="float32,int32,bf16,int16,int8", help="(%(default)s)")
    parser.add_argument("--mbit", type=int, default=1000, help="per second and direction (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each codec (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    codecs = chosen.codecs.split(",")
    try:
        with Line(chosen.mbit) as line:
            rows = asyncio.run(measure(line, codecs, chosen))
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    print(f"\n{'codec':<14} {'steps/s':>8} {'ratio':>6} {'MB/step':>8} {'line':>6}")
    for row in rows:
        print(_line(row, rows[0]))
    print("goals: " + ", ".join(f"{codec} {goal} times" for codec, goal in GOALS.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _line(row: Row, first: Row) -> str:
    ratio = row["steps_per_second"] / first["steps_per_second"]
    return (
        f"{row['codec']:<14} {row['steps_per_second']:>8.3f} {ratio:>6.2f} "
        f"{row['bytes_per_step'] / 1e6:>8.1f} {row['line_used']:>6.0%}"
    )


async def measure(line: Line, codecs: list[str], chosen: argparse.Namespace) -> list[Row]:
    """One row per codec. Raises P2PError."""
    with LocalCluster() as cluster:
        line.start_peers(cluster)
        await kills.settle(cluster, len(ADDRESSES))
        seen: dict[str, list[tuple[float, float]]] = {codec: [] for codec in codecs}
        for number in range(chosen.rounds):
            for codec in codecs:
                job = await Job.submit(cluster, {**SPEC, "codec": codec}, len(ADDRESSES))
                seen[codec].append(await _round(job, chosen.seconds))
                await job.close()
                steps, used = seen[codec][-1]
                print(
                    f"round {number + 1}  {codec:<14} {steps:8.3f} steps/s {used / 1e6:8.1f} MB/s"
                )
    return [_row(codec, seen[codec], chosen.mbit) for codec in codecs]


async def _round(job: Job, seconds: float) -> tuple[float, float]:
    """Steps per second, and bytes per second that left this end."""
    before, from_s = _sent(), time.perf_counter()
    rate = await job.steps_per_second(seconds)
    return rate, (_sent() - before) / (time.perf_counter() - from_s)


def _sent() -> int:
    counted: dict[str, Any] = psutil.net_io_counters(pernic=True)
    return int(counted["line"].bytes_sent)


def _row(codec: str, seen: list[tuple[float, float]], mbit: int) -> Row:
    steps = statistics.median(rate for rate, _ in seen)
    used = statistics.median(sent for _, sent in seen)
    return {
        "codec": codec,
        "steps_per_second": steps,
        "bytes_per_step": used / steps,
        "line_used": used / (mbit * 1e6 / 8),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
