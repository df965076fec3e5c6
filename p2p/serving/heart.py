"""What a replica is at and since when, said twice a second by a thread of its own: also while a
step takes long, or for ever. What counts as hung decides the peer (p2p.control.deadlines).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from p2p.serving.messages import News, Pulse

PULSE_EVERY_S = 0.5
REMEMBERED = 15  # of steps of about that size; the median of these is what is usual


class Pace:
    """How long a step usually takes, by its rows. `row_s`: a row's share, as the warm-up took."""

    def __init__(self, row_s: float) -> None:
        self._row_s = row_s
        self._took: dict[int, deque[float]] = {}  # by the bits of the number of rows

    def took(self, rows: int, seconds: float) -> None:
        self._took.setdefault(rows.bit_length(), deque(maxlen=REMEMBERED)).append(seconds)

    def usual_s(self, rows: int) -> float:
        """Of a size that never was, by the share of each row."""
        known = self._took.get(rows.bit_length())
        return median(known) if known else rows * self._row_s


class Heart:
    """Beats once `start`ed until the peer is gone. Nothing that waits for the peer is work."""

    def __init__(self, say: Callable[[Sequence[News]], None]) -> None:
        self._say = say
        self._now: tuple[str, float, float | None] = ("wait", time.monotonic(), None)

    def start(self) -> None:
        threading.Thread(target=self._beat, daemon=True).start()

    @contextmanager
    def at(self, doing: str, usual_s: float | None = None) -> Iterator[None]:
        self._now = (doing, time.monotonic(), usual_s)
        try:
            yield
        finally:
            self._now = ("wait", time.monotonic(), None)

    def pulse(self) -> Pulse:
        doing, since_s, usual_s = self._now
        return Pulse(doing, time.monotonic() - since_s, usual_s)

    def _beat(self) -> None:
        while True:
            time.sleep(PULSE_EVERY_S)
            try:
                self._say([self.pulse()])
            except OSError:
                return
