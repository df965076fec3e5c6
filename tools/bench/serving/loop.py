"""One replica beside a plain loop in one process, and many streams beside one.

The loop, one stream and all streams take turns, so that whatever else the machine does is the same
for all; goals are judged by the median of the rounds' factors.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from p2p.serving.messages import Load
from tools.bench.serving import hugging_face
from tools.bench.serving.figures import Goal, Part
from tools.bench.serving.plain import PlainLoop
from tools.bench.serving.replica import PROMPT, Replica, Size

GOAL_SINGLE, GOAL_BATCH = 0.95, 3.0
HUGGING_FACE_CONTEXT = 64

Rates = dict[str, tuple[float, float]]  # tokens per second, and per second of the processor


class Loop(Protocol):
    def generate(self, prompt: list[int], count: int) -> list[int]: ...


def measure(folder: Path, chosen: argparse.Namespace) -> Part:
    size = Size(chosen.width, chosen.layers, chosen.heads, chosen.context)
    began = time.monotonic()
    replica = Replica.of_textgpt(size, size.saved(folder), chosen.streams)
    try:
        ready = replica.ready()
        fork_s = time.monotonic() - began
        found = _rounds(PlainLoop(size.made()), replica, ready.context, chosen)
    finally:
        replica.end()
    lines = [f"textgpt, {ready.parameters:,} parameters, context {ready.context}"]
    lines += [*_table(found), f"from the fork to ready: {fork_s:.2f} s"]
    _, one, many = found[0]
    goals = [
        Goal("one stream beside the loop", *_beside(found, one, "the loop", GOAL_SINGLE)),
        Goal("all streams beside one", *_beside(found, many, one, GOAL_BATCH)),
    ]
    rows = [{"model": "textgpt", "fork_s": fork_s, "parameters": ready.parameters, "rounds": found}]
    if hugging_face.is_there():
        found = _of_transformers(folder / "llama", chosen)
        lines += ["a small Llama (random, 0.8 million parameters), beside transformers"]
        lines += _table(found)
        rows.append({"model": "llama", "rounds": found})
    return Part(rows, goals, lines)


def _of_transformers(folder: Path, chosen: argparse.Namespace) -> list[Rates]:
    hugging_face.saved(folder, HUGGING_FACE_CONTEXT)
    replica = Replica(Load("llama", folder=str(folder), streams=chosen.streams))
    try:
        context = replica.ready().context
        return _rounds(hugging_face.TransformersLoop(folder), replica, context, chosen)
    finally:
        replica.end()


def _rounds(loop: Loop, replica: Replica, context: int, chosen: argparse.Namespace) -> list[Rates]:
    count = context - len(PROMPT)
    found = []
    for _ in range(chosen.rounds + 1):
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        loop.generate(list(PROMPT), count)
        took = time.monotonic() - began_s, time.process_time() - began_cpu_s
        each = {"the loop": (count / took[0], count / took[1])}
        for streams in (1, chosen.streams):
            each[_name(streams)] = replica.rate(streams, count)
        found.append(each)
    return found[1:]  # the first one warms up


def _name(streams: int) -> str:
    return f"replica, {streams} stream{'s' * (streams > 1)}"


def _table(found: Sequence[Rates]) -> list[str]:
    lines = [f"{'':22}{'tokens/s':>10}{'per cpu s':>11}{'factor':>9}{'by cpu':>8}"]
    loop = next(iter(found[0]))
    for name in found[0]:
        wall, cpu = (statistics.median(each[name][n] for each in found) for n in (0, 1))
        factors = [
            statistics.median(each[name][n] / each[loop][n] for each in found) for n in (0, 1)
        ]
        lines.append(f"{name:22}{wall:10,.0f}{cpu:11,.0f}{factors[0]:8.2f}x{factors[1]:7.2f}x")
    return lines


def _beside(
    found: Sequence[Rates], above: str, below: str, limit: float
) -> tuple[float, float, str, bool]:
    factor = statistics.median(each[above][0] / each[below][0] for each in found)
    return factor, limit, "x", True
