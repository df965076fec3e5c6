"""What the consensus benchmark asks of every system: three processes, and a client outside them.

One system runs at a time, each round starts it anew in a fresh folder, and the client talks to the
leader, over one connection or as many as the system's users would open.
"""

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

VALUE = "v" * 64  # what every command writes
KEYS = 100  # it goes through so many keys


class Contender(Protocol):
    """A context manager: on leaving, its processes are gone and so is its folder."""

    name: str

    def __enter__(self) -> Self:
        """Start three processes and wait until a command was committed."""

    def __exit__(self, *error: object) -> None: ...

    def one_at_a_time(self, seconds: float) -> list[float]:
        """Seconds each command took, from sending it to its answer, the next only then."""

    def in_flight(self, count: int, seconds: float) -> float:
        """Commands per second with `count` always on their way."""

    def kill_leader(self) -> float:
        """kill -9 of the leader; seconds until a command of a client was committed.

        The killed process is back, and the cluster quiet, on return.
        """


class Missing(Exception):
    """The system is not installed; the text says how to get it."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def one_after_the_other(command: Callable[[int], object], seconds: float) -> list[float]:
    """Seconds that command(0), command(1), … took, each begun when the one before had ended."""
    taken: list[float] = []
    start_s = now_s = time.perf_counter()
    while now_s < start_s + seconds:
        command(len(taken))
        then_s, now_s = now_s, time.perf_counter()
        taken.append(now_s - then_s)
    return taken


def median(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
