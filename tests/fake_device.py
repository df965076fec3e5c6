"""A device in this process's memory, whose queues run whenever a random number says so."""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2p.devices.cuda import host_tensor


@dataclass(eq=False)
class Operation:
    act: Callable[[], None]
    after: Sequence["Operation"] = ()
    done: bool = False


@dataclass
class FakeDevice:
    """`memory` it gave out is filled with 0xEE, so that what is read too early shows."""

    random: random.Random
    given: list[NDArray[np.uint8]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._queues: dict[str, deque[Operation]] = {n: deque() for n in ("compute", "out", "in")}
        self._last = {name: Operation(lambda: None, done=True) for name in self._queues}

    def queue(self, name: str, act: Callable[[], None], *after: Operation) -> Operation:
        with self._lock:
            self._last[name] = Operation(act, after)
            self._queues[name].append(self._last[name])
            self._run(self.random.randrange(3))
            return self._last[name]

    def compute(self, act: Callable[[], None], *after: Operation) -> Operation:
        return self.queue("compute", act, *after)

    def mark(self) -> Operation:
        return self._last["compute"]

    def copy_out(self, far: Any, near: Any, after: Operation) -> Operation:
        return self.queue("out", lambda: _copy(far, near, into=False), after)

    def copy_in(self, near: Any, far: Any, after: Operation) -> Operation:
        return self.queue("in", lambda: _copy(far, near, into=True), after)

    def compute_after(self, event: Operation) -> None:
        self.compute(lambda: None, event)

    def arrival(self) -> Operation:
        return self._last["in"]

    def finish(self, event: Operation) -> None:
        while not event.done:
            self._run(1)

    def is_done(self, event: Operation) -> bool:
        self._run(self.random.randrange(2))
        return event.done

    def memory(self, size: int) -> NDArray[np.uint8]:
        self.given.append(np.full(size, 0xEE, np.uint8))
        return self.given[-1]

    def synchronize(self) -> None:
        for last in list(self._last.values()):
            self.finish(last)

    def _run(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                ready = [
                    queue
                    for queue in self._queues.values()
                    if queue and all(each.done for each in queue[0].after)
                ]
                if not ready:
                    return
                operation = self.random.choice(ready).popleft()
                operation.act()
                operation.done, operation.act, operation.after = True, _nothing, ()


def _nothing() -> None:
    """What is left of an operation that is done: it must not keep its arrays alive."""


def _copy(far: Any, near: NDArray[Any], *, into: bool) -> None:
    """`far` is an array, or a CPU tensor that plays one of a device."""
    if isinstance(far, np.ndarray):
        np.copyto(far if into else near, near if into else far)
    else:
        host = host_tensor(near, far)
        (far if into else host).detach().copy_(host if into else far)
