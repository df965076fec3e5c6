"""The handle of one operation: waited for, asked, or turned into a future, from any thread."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import Work

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
        self._source = -1
        self._start: torch.futures.Future[None] | None = None
        self._future: torch.futures.Future[list[torch.Tensor]] | None = None

    def finish(self, error: Exception | None, source: int = -1) -> None:
        with self._lock:
            self._error, self._source = error, source
            self._ended.set()
            start = self._start
        if start is not None:
            self._callers.call(lambda: start.set_result(None))

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True at the end; raises what went wrong."""
        seconds = timeout.total_seconds() if timeout else 0.0
        if not self._ended.wait(seconds if seconds > 0 else None):
            raise TimedOut(f"{self._name} has not ended after {seconds:g} s of waiting for it")
        if self._error is not None:
            raise self._error
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
            start: torch.futures.Future[None] = torch.futures.Future()
            self._start, self._future = start, start.then(self._outcome)
            future = self._future
            ended = self._ended.is_set()
        if ended:
            start.set_result(None)
        return future

    def _outcome(self, _: object) -> list[torch.Tensor]:
        if self._error is not None:
            raise self._error
        return self._outputs
