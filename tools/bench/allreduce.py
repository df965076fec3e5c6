"""All-reduce (float32, sum) over our links, by torch's gloo and by Open MPI, side by side.

The same processes use all of them in turns, one round each, so a busy machine slows all. A round
takes as long as its slowest rank; the table shows medians, how many times faster than gloo each is,
and the processor time of a rank, which a busy machine distorts less. gloo and `tcp` and `curve` use
TCP over the loopback; Open MPI its shared memory.
"""

import argparse
import contextlib
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import zmq

from tools.bench.linked import LINKS

SIZES = "4K,16K,64K,256K,1M,4M,16M,64M,256M"
RIVALS = ("gloo", "mpi")
UNITS = {"K": 10, "M": 20}
BIG = 16 << 20
GOALS = {  # against gloo: (which cells, how much, of what)
    "tcp": [("all", 1.3, "geometric mean"), ("all", 1.0, "least")],
    "curve": [("all", 0.9, "geometric mean")],
    "shm": [(">= 16M", 5.0, "least"), ("< 16M", 2.0, "least")],
}

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench allreduce", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help=f"bytes, K and M allowed ({SIZES})")
    parser.add_argument("--processes", default="2,3,4", help="how many at a time (2,3,4)")
    parser.add_argument("--links", default=",".join(LINKS), help=",".join(LINKS))
    parser.add_argument("--against", default="gloo", help="gloo,mpi")
    parser.add_argument("--json", action="store_true", help="one object per line")
    chosen = parser.parse_args(arguments)
    try:
        sizes = [_bytes(word) for word in chosen.sizes.split(",")]
        counts = [int(word) for word in chosen.processes.split(",")]
        links = _subset(chosen.links, LINKS)
        rivals = _subset(chosen.against, RIVALS)
    except ValueError as error:
        parser.error(str(error))
    if "mpi" in rivals and (missing := _missing_mpi()):
        print(f"without Open MPI: {missing}", file=sys.stderr)
        rivals.remove("mpi")
    rows: list[Row] = []
    for count in counts:
        for row in measure(count, sizes, links, rivals):
            if not chosen.json and not rows:
                print(_head(row))
            print(json.dumps(row) if chosen.json else _line(row), flush=True)
            rows.append(row)
    if not chosen.json:
        print("\n".join(summary(rows, links)))
    return 0


def _subset(words: str, known: tuple[str, ...]) -> list[str]:
    given = [word for word in words.split(",") if word]
    if unknown := set(given) - set(known):
        raise ValueError(f"no {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return given


def _bytes(word: str) -> int:
    unit = UNITS.get(word[-1:].upper(), 0)
    return int(word[:-1] if unit else word) << unit


def _missing_mpi() -> str:
    if not shutil.which("mpirun"):
        return "apt-get install openmpi-bin libopenmpi-dev"
    return "" if importlib.util.find_spec("mpi4py") else "pip install mpi4py"


def measure(count: int, sizes: list[int], links: list[str], rivals: list[str]) -> list[Row]:
    """One row per size, by `count` fresh processes: seconds by contender. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [key.decode() for key in (*zmq.curve_keypair(), *zmq.curve_keypair())]
        plan = Path(folder) / "plan.json"
        told = {"processes": count, "sizes": sizes, "links": links, "contenders": rivals}
        plan.write_text(json.dumps({**told, "folder": folder, "keys": keys}))
        _run(count, str(plan), under_mpi="mpi" in rivals)
        seconds = [json.loads(Path(f"{folder}/{rank}.json").read_text()) for rank in range(count)]
    rows = []
    for at, size in enumerate(sizes):
        medians, busy = {}, {}
        for name in seconds[0][at]:
            rounds = list(zip(*(of[at][name] for of in seconds), strict=True))
            medians[name] = statistics.median(max(taken for taken, _ in one) for one in rounds)
            busy[name] = statistics.median(sum(cpu for _, cpu in one) / count for one in rounds)
        row = {"processes": count, "bytes": size, "rounds": len(rounds), "load": os.getloadavg()[0]}
        rows.append({**row, "seconds": medians, "cpu_seconds": busy})
    return rows


def _run(count: int, plan: str, *, under_mpi: bool) -> None:
    worker = [sys.executable, "-m", "tools.bench.allreduce_worker", plan]
    if under_mpi:
        mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
        commands = [[*mpirun, "-n", str(count), *worker]]
    else:
        commands = [[*worker, str(rank)] for rank in range(count)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command)) for command in commands]
        codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"the benchmark's processes ended with {codes}")


def _head(row: Row) -> str:
    names = "".join(f"{name + ' ms':>12}" for name in row["seconds"])
    ratios = "".join(f"{name:>8}" for name in row["seconds"] if name != "gloo")
    busy = "".join(f"{name:>9}" for name in row["cpu_seconds"])
    start = f"{'processes':>9} {'bytes':>10} {'rounds':>6} {names}"
    return f"{start}   times gloo:{ratios}    load   cpu ms:{busy}"


def _line(row: Row) -> str:
    cells = "".join(f"{seconds * 1e3:12.3f}" for seconds in row["seconds"].values())
    ratios = "".join(f"{ratio:7.2f}x" for ratio in _ratios(row).values())
    start = f"{row['processes']:9} {row['bytes']:10} {row['rounds']:6} "
    busy = "".join(f"{seconds * 1e3:9.3f}" for seconds in row["cpu_seconds"].values())
    return f"{start}{cells}              {ratios}  {row['load']:6.1f}          {busy}"


def _ratios(row: Row) -> dict[str, float]:
    """How many times faster than gloo each of the others is."""
    gloo = row["seconds"].get("gloo", math.nan)
    return {name: gloo / taken for name, taken in row["seconds"].items() if name != "gloo"}


def summary(rows: list[Row], links: list[str]) -> list[str]:
    """A line per link and goal."""
    lines = ["", "against gloo:"]
    for link in links:
        for cells, goal, of in GOALS.get(link, [("all", 0.0, "geometric mean")]):
            ratios = [
                _ratios(row)[link]
                for row in rows
                if cells == "all" or (cells == ">= 16M") == (row["bytes"] >= BIG)
            ]
            if not ratios or "gloo" not in rows[0]["seconds"]:
                continue
            figure = min(ratios) if of == "least" else statistics.geometric_mean(ratios)
            verdict = f"goal {goal}: {'met' if figure >= goal else 'missed'}" if goal else ""
            lines.append(f"{link:>6} {cells:>7} {of:>15} {figure:6.2f}x  {verdict}")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
