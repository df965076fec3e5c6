"""The handle of one operation: waited for, asked, or turned into a future, from any thread."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import Work

from p2p.devices import cuda as far
from p2p.distributed.callers import Callers
from p2p.distributed.errors import TimedOut


class GroupWork(Work):
    """Ends by exactly one call of `finish`. The operation has its own timeout; `wait` may be given
    a shorter one, which ends the waiting and not the operation."""

    def __init__(self, name: str, outputs: Sequence[torch.Tensor], callers: Callers) -> None:
        super().__init__()
        self._name = name
        self._outputs = list(outputs)
        self._callers = callers
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._copies = far.all_copies(self._outputs)  # of the devices that results come to
        self._arrivals: list[Any] = []  # of their copies, an event each
        self._source = -1
        self._start: torch.futures.Future[Any] | None = None
        self._future: torch.futures.Future[list[torch.Tensor]] | None = None

    def finish(self, error: Exception | None, source: int = -1) -> None:
        arrivals = [each.arrival() for each in self._copies]
        with self._lock:
            self._error, self._source, self._arrivals = error, source, arrivals
            self._ended.set()
            start = self._start
        if start is not None:
            self._callers.call(lambda: self._complete(start))

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True at the end; raises what went wrong.

        Results on a device may still be on their way: what the current stream is given from now on
        waits for them, the host does not.
        """
        seconds = timeout.total_seconds() if timeout else 0.0
        if not self._ended.wait(seconds if seconds > 0 else None):
            raise TimedOut(f"{self._name} has not ended after {seconds:g} s of waiting for it")
        if self._error is not None:
            raise self._error
        for copies, arrival in zip(self._copies, self._arrivals, strict=True):
            copies.compute_after(arrival)
        return True

    def is_completed(self) -> bool:
        return self._ended.is_set()

    def is_success(self) -> bool:
        return self._ended.is_set() and self._error is None

    def exception(self) -> Exception | None:
        return self._error

    def synchronize(self) -> None:
        self.wait()

    def result(self) -> list[torch.Tensor]:
        self.wait()
        return self._outputs

    def source_rank(self) -> int:
        """Of a receive: who sent it."""
        return self._source

    _source_rank = source_rank

    def get_future(self) -> torch.futures.Future[Any]:
        """Of the output tensors. Its error is a C++ one, which DDP's reducer understands."""
        with self._lock:
            if self._future is not None:
                return self._future
            start: torch.futures.Future[Any] = torch.futures.Future(
                devices=[each.device for each in self._copies]
            )
            self._start, self._future = start, start.then(self._outcome)
            future = self._future
            ended = self._ended.is_set()
        if ended:
            self._complete(start)
        return future

    def _complete(self, start: torch.futures.Future[Any]) -> None:
        # A future notes the current streams of its result's devices; who waits for it waits for
        # what these have been given. None of them has anything for CPU tensors.
        with far.arriving(self._copies):
            start.set_result(self._outputs if self._copies and self._error is None else None)

    def _outcome(self, _: object) -> list[torch.Tensor]:
        if self._error is not None:
            raise self._error
        return self._outputs
