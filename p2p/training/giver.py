"""What a trainer in the ring gives to those that follow it until they have a seat.

A copy of the whole state, made behind training at a mark, when all trainers have just said the same
hash; and from that step on every round's result, until the followers have it. Followers ask again
and again (`answer`), so all that is known of one is how far it is, and who falls silent is
forgotten. `generation`, `applied`, `marked` and `wait_copied` belong to the thread that trains,
`answer` to that of the socket.

What is kept is bounded: one copy, and results of at most QUEUE_STATES_MAX times its size; who is
slower than that is told that it is over, and begins again or enters without.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2p.training.checkpoint import Contents
from p2p.training.checkpoints import Copy, Memory
from p2p.training.method import has_one_history
from p2p.training.run import Run
from p2p.training.strategies.strategy import Result

Head = dict[str, Any]
Answer = tuple[Head, memoryview]
NOTHING = memoryview(b"")
PIECE_BYTES = 1 << 20
QUEUE_STATES_MAX = 3
SILENT_S = 5.0  # a follower asks several times a second


def can_follow(run: Run) -> bool:
    """Whether a result is the result of its step whoever makes it, and all that one needs: then it
    does not matter if those who made it are lost before anybody else knew of it."""
    method, strategy = run.method, run.strategy
    if run.spec.allow_nondeterminism or strategy.spreads or strategy.asynchronous:
        return False
    return method is not None and has_one_history(method)


@dataclass(frozen=True)
class _Kept:
    """One round's result. `told` = what a follower hears of it; `data` = its numbers and values."""

    step: int
    span: int
    told: Head
    data: Any  # uint8[...]


class Giver:
    """`clock` = monotonic seconds."""

    def __init__(self, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._lock = threading.Lock()
        self._copied = threading.Event()
        self._copied.set()
        self._readers: dict[str, tuple[int | None, float]] = {}  # the step each needs, heard when
        self._refuses = False
        self.generation = -1  # that this trainer is in
        self._count = 0  # of what was begun: a copy that is still being made may not be wanted
        self._forget()

    def _forget(self) -> None:
        self._wanted = False
        self._state: tuple[int, Head, Contents] | None = None
        self._results: deque[_Kept] = deque()
        self._next: int | None = None  # the step whose result comes next; None = none is kept
        self._kept_bytes = self._bytes_max = 0
        self._spare: list[Any] = []  # rooms for results, to be used again
        self._count += 1

    @property
    def wants_mark(self) -> bool:
        """Somebody waits for a copy, which is made at a mark."""
        return self._wanted

    def wait_copied(self) -> None:
        """Until the state may change again."""
        self._copied.wait()

    def marked(self) -> None:
        """All trainers have the same state now: make a copy of it if one is wanted."""
        run = self._run
        with self._lock:
            self._drop_silent()
            if not self._wanted or not self._readers or not can_follow(run):
                return
            self._wanted = False
            count = self._count
            self._copied.clear()
        step = run.position.step
        try:
            copy = Copy(Memory(), {0: run.tensors()}, {}, run.is_steady)
            arguments = copy, step, run.hash(), run.metadata(), count
            threading.Thread(target=self._finish, args=arguments, name="giver's copy").start()
        except Exception as error:  # of memory, say: that a follower fails must not stop the ring
            print(f"trainer: no copy for a follower: {error!r}", file=sys.stderr, flush=True)
            self._refuses = True
            self._copied.set()
            return
        with self._lock:
            if self._next != step:
                self._results.clear()
                self._kept_bytes = 0
            self._next = step
        if not run.strategy.updates_only_in_apply:
            self.wait_copied()

    def _finish(
        self, copy: Copy, step: int, digest: str, metadata: Mapping[str, Any], count: int
    ) -> None:
        try:
            copy.finish()
            _, entries, data = copy.parts[0]
            contents = Contents.of(entries, data, metadata)
            told: Head = {"step": step, "bytes": contents.size, "hash": digest}
            told["revision"] = metadata["revision"]
            with self._lock:
                if count == self._count:
                    self._state = step, told, contents
                    self._bytes_max = int(QUEUE_STATES_MAX * contents.size)
        finally:
            self._copied.set()

    def applied(self, result: Result) -> None:
        """The state is the one after this round. Costs nothing while nobody follows."""
        with self._lock:
            self._drop_silent()
            if self._next is None:
                return
            if self._next != result.step:  # the state was replaced since
                self._forget()
                return
            room = self._spare.pop() if self._spare else None
        kept = self._keep(result, room)
        with self._lock:
            if self._next != result.step:
                return
            self._results.append(kept)
            self._next = result.step + result.span
            self._kept_bytes += kept.data.nbytes
            self._trim()
            if self._bytes_max and self._kept_bytes > self._bytes_max:
                self._forget()

    def _keep(self, result: Result, room: Any) -> _Kept:
        position, method = self._run.position, self._run.method
        numbers = result.agreed.numbers.view(np.uint8)
        values = result.values.view(np.uint8)
        size = len(numbers) + len(values)
        fits = room is not None and len(room) == size
        data = room if fits else np.frombuffer(Memory().room(size), np.uint8)
        data[: len(numbers)] = numbers
        data[len(numbers) :] = values
        told = {
            "step": result.step,
            "span": result.span,
            "bytes": size,
            "revision": method.revision if method else 0,
            "evaluated": position.evaluated,
            "metrics": position.metrics,
        }
        return _Kept(result.step, result.span, told, data)

    # From here on: asked by the thread of the socket.

    def answer(self, who: str, ask: Mapping[str, Any]) -> Answer:
        """One of: a head of what was asked for, a piece of it, or that there is nothing ("wait"),
        nothing any more ("gone") or never anything ("no"). Raises KeyError, TypeError, ValueError
        for what is no question."""
        what, at = str(ask["what"]), ask.get("at")
        with self._lock:
            if what == "bye":
                self._readers.pop(who, None)
                self._drop_silent()
                return {"say": "bye"}, NOTHING
            if self._refuses or not can_follow(self._run):
                return {"say": "no"}, NOTHING
            # Read before what there is: all that this trainer has made in earlier ones is there.
            place: Head = {"generation": self.generation}
            if what == "state":
                self._readers[who] = None, self._clock()
                head, payload = self._of_state(at if at is None else int(at))
            else:
                step = int(ask["step"])
                self._readers[who] = step, self._clock()
                self._trim()
                head, payload = self._of_result(step, at if at is None else int(at))
            return {**head, **place}, payload

    def _of_state(self, at: int | None) -> Answer:
        if self._state is None:
            self._wanted = self._copied.is_set()  # else one is just being made
            return {"say": "wait"}, NOTHING
        _, told, contents = self._state
        if at is None:
            return {"say": "state", **told}, NOTHING
        head, data, end = contents.head, contents.data, at + PIECE_BYTES
        if at < len(head):  # every piece but the last has the same length
            piece = memoryview(head[at:end] + bytes(data[: max(0, end - len(head))]))
        else:
            piece = data[at - len(head) : end - len(head)]
        return {"say": "piece", "step": told["step"], "at": at}, piece

    def _of_result(self, step: int, at: int | None) -> Answer:
        if step == self._next:
            return {"say": "wait"}, NOTHING
        kept = next((each for each in self._results if each.step == step), None)
        if kept is None:
            return {"say": "gone"}, NOTHING
        if at is None:
            return {"say": "result", **kept.told, "newest": self._next}, NOTHING
        piece = memoryview(kept.data)[at : at + PIECE_BYTES]
        return {"say": "piece", "step": step, "at": at}, piece

    def _drop_silent(self) -> None:
        if not self._wanted and self._next is None:
            return
        now_s = self._clock()
        self._readers = {
            who: (step, heard_s)
            for who, (step, heard_s) in self._readers.items()
            if now_s - heard_s < SILENT_S
        }
        if not self._readers:
            self._forget()

    def _trim(self) -> None:
        """Let go of what all followers have."""
        needs = [step for step, _ in self._readers.values()]
        if self._state is not None and None not in needs:
            self._state = None
        held = [] if self._state is None else [self._state[0]]
        floor = min([*held, *(step for step in needs if step is not None)], default=0)
        while self._results and self._results[0].step < floor:
            done = self._results.popleft()
            self._kept_bytes -= done.data.nbytes
            if len(self._spare) < 2:
                self._spare.append(done.data)
