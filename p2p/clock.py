"""Time: the one place that reads it. Everything else is handed a Clock."""

import time
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
    """The twin: moves only when told."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return 1_700_000_000.0 + self.now_s
