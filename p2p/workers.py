"""Children that do one thing and end: an order as JSON on stdin, an answer as JSON on stdout."""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

Order = Mapping[str, Any]
OnAnswer = Callable[[Mapping[str, Any]], None]

AT_ONCE_MAX = 2
MODULE = "p2p.datasets.worker"


class Workers(Protocol):
    def run(self, order: Order, then: OnAnswer) -> None:
        """Carry out an order of p2p.datasets.worker; `then` is called later with the answer."""


class MemoryWorkers:
    """The twin: `answer` plays the worker, when the test says so."""

    def __init__(self, answer: Callable[[Order], Mapping[str, Any]] | None = None) -> None:
        self.waiting: list[tuple[Order, OnAnswer]] = []
        self._answer = answer or (lambda order: {"error": "no worker", "exit_code": 1})

    def run(self, order: Order, then: OnAnswer) -> None:
        self.waiting.append((order, then))

    def work(self) -> int:
        """Carry out what waits; returns how much that was."""
        waiting, self.waiting = self.waiting, []
        for order, then in waiting:
            then(self._answer(order))
        return len(waiting)


class WorkerProcesses:
    """The real ones, at most AT_ONCE_MAX at a time. They die with the peer."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._waiting: deque[tuple[Order, OnAnswer]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, order: Order, then: OnAnswer) -> None:
        self._waiting.append((order, then))
        self._begin_some()

    def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    def _begin_some(self) -> None:
        while self._waiting and len(self._tasks) < AT_ONCE_MAX:
            task = asyncio.ensure_future(self._work(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": str(task.exception()), "exception": task.exception()}
            task.get_loop().call_exception_handler(context)
        self._begin_some()

    async def _work(self, order: Order, then: OnAnswer) -> None:
        try:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", MODULE),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    # numpy's pool of threads would cost more than all it does here.
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
        except OSError as error:
            then({"error": f"cannot start a child: {error.strerror}", "exit_code": 1})
            return
        try:
            said, _ = await process.communicate(json.dumps(dict(order)).encode())
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        then(_parsed(said, process.returncode))


def _parsed(said: bytes, code: int | None) -> Mapping[str, Any]:
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    return {"error": f"the child that reads datasets ended with {code}", "exit_code": 1}
