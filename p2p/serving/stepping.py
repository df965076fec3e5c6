"""A step of a replica, in which one prompt may fail without the others: user code and numbers."""

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from p2p.serving.batching import Row
from p2p.serving.desk import Desk
from p2p.serving.heart import Heart, Pace
from p2p.serving.messages import Done, Generate, News, Order
from p2p.serving.models.engine import Engine, Unfit
from p2p.training.blame import is_out_of_memory, sentence

FAILURES_MAX = 8  # prompts in a row, and none that could be computed: it is the replica


class Stepping:
    """`task_file`: of the user's code, for sentences that name a line of it."""

    def __init__(
        self, engine: Engine, desk: Desk, heart: Heart, task_file: str | None = None
    ) -> None:
        self._engine = engine
        self._desk = desk
        self._heart = heart
        self._pace = Pace(engine.row_s)
        self._task_file = task_file
        self._failures = 0

    def take(self, order: Order) -> list[News]:
        """What is to be said to it at once."""
        try:
            with self._heart.at("reading a prompt"):
                return self._desk.take(order)
        except Exception as error:
            if not isinstance(order, Generate) or is_out_of_memory(error):
                raise
            return [Done(order.request, "error", 0, 0, error=self._told(error))]

    def step(self) -> list[News] | None:
        """Compute what comes next; None = there is nothing to do. Raises what ends the replica."""
        rows = self._desk.plan()
        if not rows:
            return None
        try:
            return self._computed(rows)
        except Exception as error:
            if not self._may_go_on(error):
                raise
        return [news for group in _by_stream(rows) for news in self._alone(group)]

    def _alone(self, rows: Sequence[Row]) -> list[News]:
        """One stream's rows of a step that failed. They have the same bits by themselves, and those
        that were computed before it failed are computed again."""
        try:
            return self._computed(rows)
        except Exception as error:
            self._failures += 1
            if not self._may_go_on(error) or self._failures >= FAILURES_MAX:
                raise
            return [self._desk.fail(rows[0].slot, self._told(error))]

    def _computed(self, rows: Sequence[Row]) -> list[News]:
        began_s = time.monotonic()
        with self._heart.at("computing", self._pace.usual_s(len(rows))):
            scores = self._engine.step(rows)
            took_s = time.monotonic() - began_s
            news = self._desk.computed(rows, scores, took_s)
        self._pace.took(len(rows), took_s)
        self._failures = 0
        return news

    def _told(self, error: Exception) -> str:
        return f"the model cannot answer this prompt: {sentence(error, self._task_file)}"

    @staticmethod
    def _may_go_on(error: Exception) -> bool:
        return not isinstance(error, Unfit) and not is_out_of_memory(error)


def _by_stream(rows: Sequence[Row]) -> Iterator[list[Row]]:
    return (list(group) for _, group in groupby(rows, key=lambda row: row.slot))
