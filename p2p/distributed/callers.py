"""Threads that complete futures, apart from those that move data.

What a program hangs on a future runs on the thread that completes it, and may wait there for the
next operation of the same group (DDP's PowerSGD hook does): then that thread is held up, and the
threads that move data must not be.
"""

import queue
import threading
from collections.abc import Callable


class Callers:
    """Calls functions, at once: starts a thread whenever all it has are held up."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []

    def call(self, function: Callable[[], None]) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._run, name="p2p-futures", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(function)

    def close(self) -> None:
        """Let what was asked for end, and the threads with it (but wait for no one's callback)."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=1.0)

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            function()
            with self._lock:
                self._idle += 1
