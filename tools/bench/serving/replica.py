"""A replica in a fork of the benchmark, which plays its peer; and models to load into it."""

import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

from p2p.serving.messages import Done, Failed, Generate, Load, News, Pulse, Ready, Tokens
from p2p.serving.protocol import news
from p2p.tasks.textgpt import Gpt
from p2p.training.death import die_with
from p2p.training.stream import Decoder, encode

PROMPT = b"def "
WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """Of a textgpt; its weights are random, which costs as much as learned ones."""

    width: int
    layers: int
    heads: int
    context: int

    @property
    def options(self) -> dict[str, str]:
        names = ("width", "layers", "heads", "context")
        return {name: str(getattr(self, name)) for name in names}

    def made(self) -> Gpt:
        torch.manual_seed(0)
        return Gpt(self.width, self.layers, self.heads, self.context, dropout=0.0)

    def saved(self, folder: Path) -> Path:
        """Its file, once written there."""
        path = folder / f"{self.width}-{self.layers}-{self.context}.safetensors"
        if not path.exists():
            save_file(self.made().state_dict(), str(path))
        return path


SMALL = Size(128, 4, 4, 128)  # 0.9 million parameters, textgpt as it is
LONG = Size(128, 4, 4, 512)  # the same with a longer context
MEDIUM = Size(320, 8, 8, 256)  # 10 million
LARGE = Size(576, 6, 9, 128)  # 24 million, 97 MB


class Replica:
    """Raises SystemExit with its sentence when it cannot be."""

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

    @staticmethod
    def of_textgpt(size: Size, file: Path, streams: int = 16) -> "Replica":
        job = {"id": "bench", "task": "textgpt", "task_class": "textgpt", "options": size.options}
        return Replica(Load("bench", job=job, weights=(str(file),), streams=streams))

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
            self._ask(count)
        tokens, left = 0, streams
        while left:
            heard = self._hear()
            if isinstance(heard, Tokens):
                tokens += sum(len(stream.ids) for stream in heard.streams)
            elif isinstance(heard, Done):
                assert heard.reason == "length", heard
                left -= 1
        return tokens / (time.monotonic() - began_s), tokens / (self._cpu_s() - began_cpu_s)

    def first_token_s(self) -> float:
        began_s, taken_s = time.perf_counter(), 0.0
        self._ask(1)
        while not isinstance(heard := self._hear(), Done):
            if isinstance(heard, Tokens):
                taken_s = time.perf_counter() - began_s
        return taken_s

    def end(self) -> None:
        self._line.close()
        os.waitpid(self._pid, 0)

    def _ask(self, count: int) -> None:
        """Each its own first token: what was computed for another is not theirs."""
        self._asked += 1
        prompt = (self._asked % 256, *PROMPT[1:])
        self._say(Generate(f"r{self._asked}", tokens=prompt, max_tokens=count))

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _say(self, order: Any) -> None:
        self._line.sendall(encode(order.to_wire()))

    def _hear(self) -> News:
        while not self._heard:
            heard = map(news, self._decoder.feed(self._line.recv(1 << 16)))
            self._heard += [each for each in heard if not isinstance(each, Pulse)]
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
