"""The trainers of real peers as processes: found, signalled, slowed down."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import psutil

CYCLE_S = 0.06


def trainers_of(peer_pid: int) -> list[int]:
    """Process ids: the children of the peer's warm spare."""
    found: list[int] = []
    with contextlib.suppress(psutil.Error):
        for spare in psutil.Process(peer_pid).children():
            found += [trainer.pid for trainer in spare.children()]
    return found


def send(pid: int, number: signal.Signals) -> None:
    """The process may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class SlowDown:
    """A context manager, and a thread that lets a process run for `share` of the time only."""

    def __init__(self, pid: int, share: float, cycle_s: float = CYCLE_S) -> None:
        self._pid, self._share, self._cycle_s = pid, share, cycle_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow down", daemon=True)

    def __enter__(self) -> "SlowDown":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def for_a_while(self, seconds: float) -> None:
        """Returns at once; the slow-down ends by itself."""
        self._thread.start()
        threading.Timer(seconds, self._ending.set).start()

    def _run(self) -> None:
        while not self._ending.is_set() and Path("/proc", str(self._pid)).exists():
            send(self._pid, signal.SIGSTOP)
            time.sleep(self._cycle_s * (1 - self._share))
            send(self._pid, signal.SIGCONT)
            time.sleep(self._cycle_s * self._share)
        send(self._pid, signal.SIGCONT)
