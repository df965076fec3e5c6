"""What a trainer is doing, since when, and how long that usually takes: its pulse.

The main thread says what it begins; the control thread tells the peer, also when the main thread
hangs. What counts as hung decides the peer (p2p.control.deadlines).
"""

import time
from collections import deque
from statistics import median

from p2p.training.stream import Message

PULSE_EVERY_S = 0.5
REMEMBERED = 15  # of each kind of work; the median of these is what is usual


class Activity:
    """Between `begin` and the next one. "wait": for an order, or for leave to step."""

    def __init__(self) -> None:
        self._now = ("wait", -1, time.monotonic())
        self._took: dict[str, deque[float]] = {}

    def begin(self, doing: str, step: int) -> None:
        was, _, since_s = self._now
        now_s = time.monotonic()
        self._took.setdefault(was, deque(maxlen=REMEMBERED)).append(now_s - since_s)
        self._now = (doing, step, now_s)

    def pulse(self) -> Message:
        doing, step, since_s = self._now
        took = list(self._took.get(doing, ()))
        return {
            "kind": "pulse",
            "doing": doing,
            "step": step,
            "for_s": time.monotonic() - since_s,
            "usual_s": median(took) if took else None,
        }
