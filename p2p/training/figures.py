"""What a trainer measures between two reports: of each figure the least, greatest, mean and last.

So that the loss of one bad step, or one slow exchange, is not lost between two reports, however
many steps lie between them. Nothing here changes a bit of the training state.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor

from p2p.training.blame import TaskFailed

NAMES_MAX = 32  # of the task's own metrics
NAME_CHARACTERS_MAX = 64
NORM_EVERY_S = 0.5
NORM_SHARE = 0.002  # of the time may go into norms, if they are not more than that


class Figures:
    def __init__(self) -> None:
        self._kept: dict[str, list[float]] = {}  # least, greatest, sum, last, count
        self._own: set[str] = set()
        self._norm_at = 0.0

    def add(self, name: str, value: float) -> None:
        """A value that is not finite is no measurement, and is left out."""
        if not math.isfinite(value):
            return
        kept = self._kept.get(name)
        if kept is None:
            self._kept[name] = [value, value, value, value, 1]
            return
        kept[0], kept[1] = min(kept[0], value), max(kept[1], value)
        kept[2], kept[3], kept[4] = kept[2] + value, value, kept[4] + 1

    def add_metric(self, name: str, value: Any) -> None:
        """The task's own, by a name of its own: the first NAMES_MAX names count.

        Raises TaskFailed when that is no name or no number.
        """
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise TaskFailed(
                f"add_metric(): {str(name)[:80]!r} is no name of 1 to {NAME_CHARACTERS_MAX} "
                "characters"
            )
        try:
            number = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise TaskFailed(f"add_metric({name!r}, …): the value is not one number") from error
        if name not in self._own and len(self._own) >= NAMES_MAX:
            return
        self._own.add(name)
        self.add(f"metric.{name}", number)

    def gradient_norm(self, average: Tensor) -> None:
        """Its Euclidean norm, now and then: reading a large gradient takes time."""
        began = time.monotonic()
        if began < self._norm_at:
            return
        self.add("gradient_norm", float(torch.linalg.vector_norm(average)))
        ended = time.monotonic()
        self._norm_at = ended + max(NORM_EVERY_S, (ended - began) / NORM_SHARE)

    def take(self) -> dict[str, list[float]]:
        """[least, greatest, mean, last, count] by name, since the last time."""
        taken, self._kept = self._kept, {}
        return {
            name: [low, high, total / count, last, count]
            for name, (low, high, total, last, count) in taken.items()
        }
