"""What codecs are worth on a slow line: the step rate of a GPT between two network namespaces.

Two real peers, one per namespace, joined by a line that a token bucket limits in each direction.
Every codec trains the same job in turns. The ratio is that of the step rates to the first codec's.
"line" is what share of the limit left this end, counted by the kernel over the whole measurement,
so with the time in which trainers compute and the line has nothing to do. Needs root.

The GPT has 10 M parameters and sees few tokens per step (--context, one sample per trainer), so
that the line is what a step waits for: a codec shortens nothing else.
"""

import argparse
import asyncio
import json
import statistics
import sys
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
    "options": {"width": "320", "layers": "8", "heads": "8"},
}

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench line",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--codecs", default="float32,int32,bf16,int16,int8", help="(%(default)s)")
    parser.add_argument(
        "--mbit", default="1000,100", help="per second and direction, a table each (%(default)s)"
    )
    parser.add_argument("--context", type=int, default=16, help="tokens per trainer and step (16)")
    parser.add_argument("--rounds", type=int, default=3, help="of each codec (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    codecs, rates = chosen.codecs.split(","), [int(word) for word in chosen.mbit.split(",")]
    tables = []
    try:
        with Line(rates[0]) as line:
            for rate in rates:
                line.limit(rate)
                tables.append(asyncio.run(measure(line, rate, codecs, chosen)))
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    for rate, rows in zip(rates, tables, strict=True):
        print(f"\n{rate} Mbit/s")
        print(f"{'codec':<14} {'steps/s':>8} {'ratio':>6} {'MB/step':>8} {'line':>6}")
        for row in rows:
            print(_line(row, rows[0]))
    print("goals: " + ", ".join(f"{codec} {goal} times" for codec, goal in GOALS.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps(tables, indent=1) + "\n")
    return 0


def _line(row: Row, first: Row) -> str:
    ratio = row["steps_per_second"] / first["steps_per_second"]
    return (
        f"{row['codec']:<14} {row['steps_per_second']:>8.3f} {ratio:>6.2f} "
        f"{row['bytes_per_step'] / 1e6:>8.1f} {row['line_used']:>6.0%}"
    )


async def measure(
    line: Line, mbit: int, codecs: list[str], chosen: argparse.Namespace
) -> list[Row]:
    """One row per codec, at this rate. Raises P2PError."""
    spec = {**SPEC, "options": {**SPEC["options"], "context": str(chosen.context)}}
    with LocalCluster() as cluster:
        line.start_peers(cluster)
        await kills.settle(cluster, len(ADDRESSES))
        seen: dict[str, list[tuple[float, float]]] = {codec: [] for codec in codecs}
        for number in range(chosen.rounds):
            for codec in codecs:
                job = await Job.submit(cluster, {**spec, "codec": codec}, len(ADDRESSES))
                seen[codec].append(await job.rates(chosen.seconds, _sent))
                await job.close()
                steps, used = seen[codec][-1]
                print(
                    f"{mbit} Mbit/s  round {number + 1}  {codec:<14} {steps:8.3f} steps/s "
                    f"{used / 1e6:8.1f} MB/s"
                )
    return [_row(codec, seen[codec], mbit) for codec in codecs]


def _sent() -> int:
    """Bytes that have left this end."""
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
