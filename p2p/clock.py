"""Time: the one place that reads it. Everything else is handed a Clock."""

import heapq
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def monotonic_s(self) -> float:
        """Seconds that never go back; comparable between processes of one host."""

    def unix_s(self) -> float:
        """Wall-clock seconds since 1970, for people to read."""


class SystemClock:
    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()


class ManualClock:
    """The twin: moves only when told, and runs what was put off until then, in order."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._later and self._later[0][0] <= end_s:
            at_s, _, callback = heapq.heappop(self._later)
            self.now_s = max(self.now_s, at_s)
            callback()
        self.now_s = end_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._later, (self.now_s + delay_s, self._count, callback))

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return 1_700_000_000.0 + self.now_s
