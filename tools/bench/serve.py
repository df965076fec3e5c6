"""What a replica gives beside a plain PyTorch generate loop with a cache, and with many streams.

A textgpt with random weights, greedy. The loop, one stream, and all streams take turns, so that
whatever else the machine does is the same for all; goals are judged by the median of the rounds.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from p2p.serving.messages import Done, Failed, Generate, Load, News, Ready, Tokens
from p2p.serving.protocol import news
from p2p.tasks.textgpt import Gpt
from p2p.training.death import die_with
from p2p.training.stream import Decoder, encode
from tools.bench.serve_plain import PlainLoop

PROMPT = list(b"def ")
GOAL_SINGLE, GOAL_BATCH = 0.95, 3.0
NAMES = ("width", "layers", "heads", "context")
WITHIN_S = 120.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench serve", description=__doc__)
    for name, default in zip(NAMES, (128, 4, 4, 128), strict=True):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of textgpt ({default})")
    parser.add_argument("--streams", type=int, default=16, help="at the same time (16)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (5)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {name: getattr(chosen, name) for name in NAMES}
    model = Gpt(**sizes, dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.safetensors"))
        save_file(model.state_dict(), path)
        job = {"id": "bench", "task": "textgpt", "task_class": "textgpt"}
        job["options"] = {name: str(size) for name, size in sizes.items()}  # type: ignore[assignment]
        began = time.monotonic()
        replica = Replica(Load("bench", job=job, weights=(path,), streams=chosen.streams))
        try:
            ready = replica.ready()
            load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            print(f"{ready.parameters:,} parameters, context {ready.context}, {load}")
            print(f"from the fork to ready: {time.monotonic() - began:.2f} s")
            return report(rounds(PlainLoop(model), replica, ready, chosen))
        finally:
            replica.end()


def rounds(
    plain: PlainLoop, replica: "Replica", ready: Ready, chosen: argparse.Namespace
) -> list[dict[str, tuple[float, float]]]:
    """Tokens per second, and per second of the processor, of each way in each round."""
    count = ready.context - len(PROMPT)
    found = []
    for _ in range(chosen.rounds + 1):
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        plain.generate(PROMPT, count)
        took = time.monotonic() - began_s, time.process_time() - began_cpu_s
        each = {"plain loop": (count / took[0], count / took[1])}
        for streams in (1, chosen.streams):
            each[f"replica, streams: {streams}"] = replica.rate(streams, count)
        found.append(each)
    return found[1:]  # the first one warms up


def report(found: Sequence[dict[str, tuple[float, float]]]) -> int:
    print(f"{'':22}{'tokens/s':>10}{'per cpu s':>11}")
    for name in found[0]:
        wall, cpu = (statistics.median(each[name][n] for each in found) for n in (0, 1))
        print(f"{name:22}{wall:10,.0f}{cpu:11,.0f}")
    plain, one, many = found[0]
    reached = True
    for name, above, below, goal in (
        ("one stream beside the loop", one, plain, GOAL_SINGLE),
        ("all streams beside one", many, one, GOAL_BATCH),
    ):
        by = [statistics.median(e[above][n] / e[below][n] for e in found) for n in (0, 1)]
        is_met = by[0] >= goal
        reached = reached and is_met
        told = "reached" if is_met else "missed"
        print(f"{name}: {by[0]:.2f} x ({by[1]:.2f} x by cpu), the goal is {goal:g} - {told}")
    return 0 if reached else 1


class Replica:
    """A real one in a fork of this process, which plays its peer."""

    def __init__(self, order: Load) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(WITHIN_S)
        self._decoder, self._heard, self._asked = Decoder(), list[News](), 0
        parent = os.getpid()
        with theirs:
            self._pid = os.fork()
            if self._pid == 0:
                _become_replica(self._line, theirs, parent)
        self._process = psutil.Process(self._pid)
        self._say(order)

    def ready(self) -> Ready:
        heard = self._hear()
        if isinstance(heard, Failed):
            sys.exit(f"PROBLEM: {heard.error}")
        assert isinstance(heard, Ready)
        return heard

    def rate(self, streams: int, count: int) -> tuple[float, float]:
        """Tokens per second, and per second of the replica's processor time."""
        began_s, began_cpu_s = time.monotonic(), self._cpu_s()
        for _ in range(streams):
            # Each its own first token: what was computed for another is not theirs.
            self._asked += 1
            prompt = (self._asked % 256, *PROMPT[1:])
            self._say(Generate(f"r{self._asked}", tokens=prompt, max_tokens=count))
        tokens, left = 0, streams
        while left:
            heard = self._hear()
            if isinstance(heard, Tokens):
                tokens += sum(len(stream.ids) for stream in heard.streams)
            elif isinstance(heard, Done):
                assert heard.reason == "length", heard
                left -= 1
        return tokens / (time.monotonic() - began_s), tokens / (self._cpu_s() - began_cpu_s)

    def end(self) -> None:
        self._line.close()
        os.waitpid(self._pid, 0)

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _say(self, order: Any) -> None:
        self._line.sendall(encode(order.to_wire()))

    def _hear(self) -> News:
        while not self._heard:
            self._heard += map(news, self._decoder.feed(self._line.recv(1 << 16)))
        return self._heard.pop(0)


def _become_replica(ours: socket.socket, theirs: socket.socket, parent: int) -> None:
    """In the fork; never returns."""
    code = 1
    try:
        die_with(parent)
        ours.close()
        from p2p.serving.replica import main as serve

        code = serve(theirs)
    finally:
        os._exit(code)
