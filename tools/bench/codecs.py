"""What each codec costs a training step: the same trainers, the same batches, codecs in turns.

Real processes over real links on one host, without peers. A step takes as long as its slowest rank;
"exchange" is from the last shard's gradient to the average, with the wait for the slowest rank;
"CPU" is what all ranks' threads used, which other programs on the machine disturb less. The ratios
are those of the medians to the first codec's.

With --mbit, two ranks between two network namespaces joined by a line of that rate: "line" is what
share of the exchange's time the bytes need at that rate. Needs root.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collectives.operations import Group
from collectives.plane import CurveKeys, DataPlane
from tools.bench import ranks
from tools.bench.linked import fresh_keys
from tools.bench.namespaces import ADDRESSES, Line

TASKS: dict[str, dict[str, Any]] = {
    "digits": {"task": "digits", "global_batch": 60},
    "gpt": {
        "task": "textgpt",
        "global_batch": 24,
        "options": {"width": "320", "layers": "8", "heads": "8", "context": "128"},
    },
}
GOAL = 1.10  # of int32's step over float32's

Row = dict[str, Any]
Figures = tuple[float, float, float, float]  # seconds: step, exchange, CPU; bytes sent


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench codecs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--codecs", default="float32,int32", help="(%(default)s)")
    parser.add_argument("--tasks", default="digits,gpt", help="digits, gpt or both")
    parser.add_argument("--processes", default="2,3,4", help="how many at a time (2,3,4)")
    parser.add_argument("--shards", type=int, default=12, help="of the job (12)")
    parser.add_argument("--rounds", type=int, default=5, help="of each codec (5)")
    parser.add_argument("--steps", type=int, default=0, help="of each round (20; gpt: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--mbit", type=int, default=0, help="of a line between two (none)")
    parser.add_argument("--batch", type=int, default=0, help="samples per step (60; gpt: 24)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="task's")
    chosen = parser.parse_args(arguments)
    codecs, rows = chosen.codecs.split(","), []
    print(f"{'task':<8} {'processes':>9} {'codec':<14} {'step ms':>9} {'exchange':>9} "
          f"{'CPU ms':>9} {'MB sent':>8} {'ratio':>6} {'CPU':>6} {'line':>5}")  # fmt: skip
    with ExitStack() as stack:
        line = stack.enter_context(Line(chosen.mbit)) if chosen.mbit else None
        for task in chosen.tasks.split(","):
            spec, steps = _spec(task, chosen), chosen.steps or (1 if task == "gpt" else 20)
            for count in [2] if line else [int(word) for word in chosen.processes.split(",")]:
                for row in measure(spec, count, codecs, chosen.rounds, steps, line):
                    rows.append({"task": task, **row})
                    print(_line(rows[-1], chosen.mbit), flush=True)
    print(f"goal: int32 at most {GOAL} of float32")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _spec(task: str, chosen: argparse.Namespace) -> dict[str, Any]:
    spec = {"id": "bench", "task_class": "", "shards": chosen.shards, **TASKS[task]}
    given = dict(pair.split("=", 1) for pair in chosen.set)
    batch = {"global_batch": chosen.batch} if chosen.batch else {}
    return {**spec, **batch, "options": {**spec.get("options", {}), **given}}


def _line(row: Row, mbit: int) -> str:
    used = f"{row['sent_bytes'] * 8e-3 / mbit / row['exchange_ms']:>5.0%}" if mbit else ""
    return (
        f"{row['task']:<8} {row['processes']:>9} {row['codec']:<14} {row['step_ms']:>9.1f} "
        f"{row['exchange_ms']:>9.2f} {row['cpu_ms']:>9.1f} {row['sent_bytes'] / 1e6:>8.3f} "
        f"{row['ratio']:>6.2f} {row['cpu_ratio']:>6.2f} {used}"
    )


def measure(
    spec: dict[str, Any],
    count: int,
    codecs: list[str],
    rounds: int,
    steps: int,
    line: Line | None = None,
) -> list[Row]:
    """One row per codec, by `count` fresh processes."""
    with _started(count, (line, spec, codecs, rounds, steps)) as pipes:
        by_rank: list[dict[str, list[Figures]]] = [pipe.recv() for pipe in pipes]
    rows: list[Row] = []
    for codec in codecs:
        found = [_whole(each) for each in zip(*(one[codec] for one in by_rank), strict=True)]
        step, exchange, cpu, sent = (statistics.median(each) for each in zip(*found, strict=True))
        row = {"processes": count, "codec": codec, "step_ms": step * 1e3, "cpu_ms": cpu * 1e3}
        first = rows[0] if rows else row
        row |= {"exchange_ms": exchange * 1e3, "sent_bytes": sent}
        row |= {"ratio": step * 1e3 / first["step_ms"], "cpu_ratio": cpu * 1e3 / first["cpu_ms"]}
        rows.append(row)
    return rows


def _whole(figures: tuple[Figures, ...]) -> Figures:
    """Of one step: the slowest rank's times, all ranks' CPU time, the bytes that one sends."""
    steps, exchanges, cpu, sent = zip(*figures, strict=True)
    return max(steps), max(exchanges), sum(cpu), max(sent)


@contextmanager
def _started(count: int, plan: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Processes that know one another; their pipes, by rank."""
    keys = fresh_keys()
    with tempfile.TemporaryDirectory() as folder:
        plans = [(rank, f"{folder}/ipc", keys, *plan) for rank in range(count)]
        with ranks.started(work, plans) as pipes:
            ranks.introduce(pipes)
            yield pipes


def work(
    rank: int,
    folder: str,
    keys: CurveKeys,
    line: Line | None,
    spec: dict[str, Any],
    codecs: list[str],
    rounds: int,
    steps: int,
    parent: Connection,
) -> None:
    """One trainer: every round has `steps` steps with each codec, after one that does not count."""
    from p2p.training import task
    from p2p.training.method import Method
    from p2p.training.run import Run
    from p2p.training.spec import parse

    if line:
        line.enter(rank)
    parsed = parse(spec)
    run = Run(parsed, task.create(task.load(parsed, folder), parsed))
    run.warm_up()
    plane = DataPlane(ADDRESSES[rank] if line else "127.0.0.1", folder, keys)
    parent.send(plane.endpoints)
    members = parent.recv()
    group = plane.enter("bench", 1, rank, members)
    shards = run.schedule.shards
    cuts = [
        (i * shards // len(members), (i + 1) * shards // len(members)) for i in range(len(members))
    ]
    measured: dict[str, list[Figures]] = {codec: [] for codec in codecs}
    for number in range(rounds):
        for codec in codecs:
            run.use(Method("ring", codec, dict(parsed.options or {}), revision=number))
            run.strategy.enter(group, cuts)
            for step in range(steps + 1):
                figures = _step(run, group, cuts[rank])
                if step:
                    measured[codec].append(figures)
    parent.send(measured)
    group.all_gather(b"")


def _step(run: Any, group: Group, mine: tuple[int, int]) -> Figures:
    group.all_gather(b"")  # begin together: who waits for whom is not the codec's affair
    given, began, cpu = group.given_bytes, time.perf_counter(), time.process_time()
    run.strategy.compute(run.position.step, run.batches(), mine, lambda: None)
    computed = time.perf_counter()
    result = run.strategy.exchange(group, run.position.step, False)
    exchanged = time.perf_counter()
    run.apply(result)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    return ended - began, exchanged - computed, cpu, group.given_bytes - given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
