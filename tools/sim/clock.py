"""A peer's clock: it may run fast or slow, and its wall clock may jump; monotonic never does."""

from collections.abc import Callable

from tools.sim.parameters import SECOND


class SimClock:
    """p2p.clock.Clock. `now` gives the simulated time in microseconds."""

    def __init__(self, now: Callable[[], int], rate: float, begun_s: float) -> None:
        self.wall_jump_s = 0.0
        self._now = now
        self._rate = rate
        self._begun_s = begun_s

    def monotonic_s(self) -> float:
        return self._begun_s + self._now() * self._rate / SECOND

    def unix_s(self) -> float:
        return 1_700_000_000.0 + self.wall_jump_s + self.monotonic_s()

    def microseconds(self, delay_s: float) -> int:
        """How long that is in simulated time."""
        return int(delay_s * SECOND / self._rate)
