"""A trainer without a seat follows the ring until it stands where the ring does: Raft's learner.

It fetches the whole state from one trainer of the ring, checks it against the hash that all of them
said of it, then fetches the results of the steps since and applies them, while the others go on.
When it is within a few steps it says so, is given a seat, and lacks next to nothing when it enters.

Whatever goes wrong (nobody gives, or too slowly; what came is damaged) the trainer enters as it
stands, and gets what it lacks from the ring, which waits for it (p2p.training.catchup).
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2p.errors import P2PError
from p2p.training.blame import TaskFailed
from p2p.training.checkpoint import Damaged
from p2p.training.giver import PIECE_BYTES, Head, can_follow
from p2p.training.giver_socket import Interrupted, Link, Lost
from p2p.training.method import Method
from p2p.training.run import Run

WINDOW_BYTES = 8 * PIECE_BYTES  # asked for and not there yet
ASK_AGAIN_S = 0.01
LEVEL_WITHIN = 1  # steps behind count as level: the last ones come at the entry
ENTRY_S = 2.0  # of the others' time
COPY_WITHIN_S = 30.0  # marks are at most 10 s apart, and take a step each
BEGINS_MAX = 3  # of a transfer, before it enters without
BYTES_MIN = 8 << 20  # of parameters: less is there within a step or two, so nobody need prepare


@dataclass(frozen=True)
class Follow:
    """Whom to follow, as the peer told it: the members of generation `number`, by rank."""

    number: int
    givers: Sequence[Mapping[str, Any]]
    method: Method | None


class _Unable(Exception):
    """This giver cannot bring this trainer level."""


def is_worth_it(run: Run) -> bool:
    """Whether a trainer that is ready should follow before it has a seat."""
    weight = sum(p.nbytes for p in run.model.parameters())
    return weight >= BYTES_MIN and can_follow(run)


class Follower:
    """`connect` makes a Link to the giver with these endpoints, or None where there is none;
    `level` is called once, when this trainer may have a seat."""

    def __init__(
        self,
        run: Run,
        connect: Callable[[Mapping[str, Any]], Link | None],
        level: Callable[[], None],
    ) -> None:
        self._run, self._connect, self._level = run, connect, level
        self.is_learning = is_worth_it(run)
        self._link: Link | None = None
        self._has_state = False
        self._follows: Mapping[str, Any] = {}  # the endpoints of whom
        self._giver_in = -1  # its generation

    def follow(self, order: Follow) -> None:
        """Returns when it is interrupted, or when this trainer enters without."""
        if not self.is_learning and self._link is None:
            return
        try:
            self._run.use(order.method)
        except (P2PError, TaskFailed, ValueError):
            pass  # what is wrong with it is said when there is a seat
        else:
            try:
                self._follow([dict(each) for each in order.givers])
            except Interrupted:
                return
        self.close()
        self._say_level()

    def finish(self, number: int, members: Sequence[Mapping[str, Any]]) -> None:
        """It has a seat in generation `number`: follow until the giver is there, too, and a little
        longer, then let go."""
        link = self._link
        if link is not None and self._has_state and self._follows in members:
            link.forget()
            with contextlib.suppress(Lost, Interrupted, _Unable):  # the ring has it
                self._take_last(link, number)
        self.close()
        self._say_level()

    def close(self) -> None:
        if self._link is not None:
            self._link.ask(what="bye")
            self._link.close()
        self._link, self._follows, self._has_state = None, {}, False

    def _follow(self, givers: Sequence[Mapping[str, Any]]) -> None:
        """Raises Interrupted; returns when nobody can bring this trainer level."""
        for begun in range(BEGINS_MAX):
            try:
                if not (self._has_state and self._follows in givers):
                    self.close()
                    self._follows = givers[begun % len(givers)]
                    self._link = self._connect(self._follows)
                if self._link is not None:
                    self._link.forget()  # what was under way when it was interrupted
                    self._keep_level(self._link)
            except (Lost, _Unable, Damaged):
                self.close()

    def _keep_level(self, link: Link) -> None:
        """Until it is interrupted. Raises Interrupted, Lost, _Unable, Damaged."""
        if not self._has_state:
            self._take_state(link)
            self._has_state = True
        while True:
            behind = self._result(link)
            if behind is None or behind <= LEVEL_WITHIN:
                self._say_level()
            if behind is None:
                time.sleep(ASK_AGAIN_S)

    def _take_last(self, link: Link, number: int) -> None:
        """Until there is no newer result and none will come: the giver waits in generation
        `number`, as all others do, and not for long."""
        until = None
        while until is None or time.monotonic() < until:
            behind = self._result(link)
            if self._giver_in < number:
                time.sleep(ASK_AGAIN_S if behind is None else 0.0)
            elif behind is None:
                return
            elif until is None:
                until = time.monotonic() + ENTRY_S

    def _take_state(self, link: Link) -> None:
        until = time.monotonic() + COPY_WITHIN_S
        while (head := self._asked(link, what="state"))["say"] == "wait":
            if time.monotonic() > until:
                raise _Unable
            time.sleep(ASK_AGAIN_S)
        data = self._fetched(link, head, what="state")
        self._run.restore(data, str(head.get("hash")))

    def _result(self, link: Link) -> int | None:
        """Apply the result of the next round. How many steps behind the giver this trainer then is;
        None = there is no newer one."""
        run = self._run
        head = self._asked(link, what="result", step=run.position.step)
        if head["say"] == "wait":
            return None
        result = run.strategy.room(run.position.step)
        numbers, values = (array.view(np.uint8) for array in (result.agreed.numbers, result.values))
        data = self._fetched(link, head, what="result", step=run.position.step)
        split = len(numbers)
        newest, evaluated = head.get("newest"), head.get("evaluated")
        metrics = head.get("metrics")
        if not (isinstance(newest, int) and isinstance(evaluated, int)):
            raise _Unable
        fits = len(data) == split + len(values) and head.get("span") == result.span
        if not fits or not isinstance(metrics, dict):
            raise _Unable
        numbers[:] = np.frombuffer(data, np.uint8, split)
        values[:] = np.frombuffer(data, np.uint8, offset=split)
        run.apply(result)
        run.position.evaluated, run.position.metrics = evaluated, metrics
        return newest - run.position.step

    def _asked(self, link: Link, **question: Any) -> Head:
        link.ask(**question)
        head, _ = link.answer()
        self._giver_in = int(head.get("generation", -1))
        if head.get("say") == "wait":
            return head
        own = self._run.method.revision if self._run.method else None
        # Of another revision: an order will say by which method the ring goes on.
        if (head.get("say"), head.get("revision")) != (question["what"], own):
            raise _Unable
        if type(head.get("bytes")) is not int or type(head.get("step")) is not int:
            raise _Unable
        return head

    def _fetched(self, link: Link, head: Head, **question: Any) -> bytes:
        """All bytes of what `head` is of. Grows with what has arrived."""
        size, room, asked = head["bytes"], bytearray(), 0
        while len(room) < size:
            while asked < size and asked - len(room) < WINDOW_BYTES:
                link.ask(**question, at=asked)
                asked += PIECE_BYTES
            told, piece = link.answer()
            place = told.get("say"), told.get("step"), told.get("at")
            if place != ("piece", head["step"], len(room)) or not len(piece):
                raise _Unable
            room += piece
        return bytes(room)

    def _say_level(self) -> None:
        if self.is_learning:
            self.is_learning = False
            self._level()
