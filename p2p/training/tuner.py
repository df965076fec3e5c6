"""What `auto` goes by: every trainer times its computing and its exchanges, all compare at marks.

All plan from the same measurements (p2p.training.choosing), so that whoever is rank 0 next goes on
from there; only rank 0's wish counts. Nothing is measured for a job that is not left to `auto`.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from collectives.codecs import Vector, build
from collectives.operations import Group
from p2p.training.choosing import CHOICES, Choice, Limits, Memory, Window, Wish, begin, plan
from p2p.training.method import Method, allows_any
from p2p.training.strategies import catalog

ROUNDS_LEFT_OUT = 2  # after a generation began: connections are made, memory is touched first
ROUNDS_MIN = 4  # of a window
MARKS_PER_WINDOW = 4  # about two seconds
SAMPLE_VALUES = 1 << 16  # on which codecs are timed,
SAMPLES = 4  # so often


class Tuner:
    """One trainer's part, over all generations of a job. `wish` is what rank 0 asks for."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self.wish: Wish | None = None
        self._memory: Memory | None = None
        self._choice: Choice | None = None
        self._coding_s: Mapping[Choice, float] = {}
        self._left_out = self._values = 0
        self._shortest_s: float = math.inf
        self._limits = Limits()
        self._clear()

    def enter(self, method: Method | None, vector: Vector, rows: int) -> None:
        """A generation begins, in which this trainer has so many shards."""
        self.wish = self._choice = None
        if method is None or not method.auto:
            return
        self._choice = Choice(method.strategy, method.codec)
        self._values, self._left_out = vector.length, ROUNDS_LEFT_OUT
        self._limits = _limits(method)
        if not self._coding_s:
            self._coding_s = coding_seconds(vector, max(1, rows))
        if self._memory is None:
            self._memory = begin(self._limits, self._clock_s())
        self._clear()

    def round(self, compute_s: float, exchange_s: float, span: int) -> None:
        """One round is over, on all trainers."""
        if self._choice is None:
            return
        if self._left_out:
            self._left_out -= 1
            return
        self._rounds += 1
        self._steps += span
        self._compute_s += compute_s
        self._exchange_s += exchange_s
        self._shortest_s = min(self._shortest_s, exchange_s)

    def mark(self, group: Group) -> None:
        """All trainers are at the same mark. Raises Aborted."""
        if self._choice is None or group.size < 2:
            return
        self._marks += 1
        if self._marks < MARKS_PER_WINDOW or self._rounds < ROUNDS_MIN:
            return
        own = np.array([self._compute_s / self._steps, self._exchange_s / self._steps])
        told = group.all_gather(np.append(own, self._shortest_s).tobytes())
        began = time.monotonic()
        group.all_gather(b"")  # all have just met in the first one: only the line is left
        latency_s = time.monotonic() - began
        each = np.array([np.frombuffer(one, np.float64) for one in told])
        window = Window(
            choice=self._choice,
            values=self._values,
            compute_s=tuple(each[:, 0].tolist()),
            exchange_s=tuple(each[:, 1].tolist()),
            wire_s=float(each[:, 2].min()),
            latency_s=latency_s,
            coding_s=self._coding_s,
        )
        assert self._memory is not None
        self._memory, wish = plan(window, self._memory, self._limits, self._clock_s())
        self.wish = wish or self.wish
        self._clear()

    def _clear(self) -> None:
        self._marks = self._rounds = self._steps = 0
        self._compute_s = self._exchange_s = 0.0
        self._shortest_s = math.inf


def coding_seconds(vector: Vector, rows: int) -> dict[Choice, float]:
    """What every choice that can be made costs this machine per step to round and unround."""
    found: dict[str, float] = {}
    for codec in sorted({choice.codec for choice in CHOICES}):
        try:
            found[codec] = _seconds(codec, vector, rows)
        except ValueError:
            continue  # not for so many shards
    return {
        choice: found[choice.codec]
        for choice in CHOICES
        if choice.codec in found and choice.strategy in catalog.STRATEGIES
    }


def _seconds(name: str, vector: Vector, rows: int) -> float:
    """On a sample; of the processor's time, which others on it cannot stretch."""
    length = min(vector.length, SAMPLE_VALUES)
    codec = build(name, Vector(length, vector.shards, vector.seed))
    values = np.random.default_rng(0).standard_normal((rows, length), np.float32)
    took_s = []
    for step in range(SAMPLES):
        given, out = values.copy(), np.empty(length, np.float32)
        began = time.thread_time()
        codec.reduce(_Alone(), given, range(rows), step, out)
        took_s.append(time.thread_time() - began)
    return min(took_s) * vector.length / max(1, length)


class _Alone:
    """A group of one, which a codec can be timed with."""

    rank, size = 0, 1

    def all_reduce(
        self, source: np.ndarray[Any, Any], out: np.ndarray[Any, Any], op: str, number: str = ""
    ) -> None:
        np.copyto(out, source)

    def send(self, to: int, payload: memoryview | bytes) -> None:
        raise AssertionError("there is nobody else")

    def receive(self, source: int, out: memoryview | None = None) -> memoryview:
        raise AssertionError("there is nobody else")


def _limits(method: Method) -> Limits:
    """As local-sgd would be, by the job's options."""
    entry = catalog.STRATEGIES["local-sgd"]
    told = entry.parse(method.options)
    return Limits(
        inner_steps=int(told["local_steps"]),
        moments_sent=told["inner_state"] == "average",
        any_choice=allows_any(method),
    )
