"""The in-memory disk with what the simulator arms on it: an end of the process, or a failure."""

import errno
import random
from collections.abc import Callable, Collection

from p2p.disk_memory import MemoryDisk


class PowerGone(BaseException):
    """The crash that was armed for this point; no code of the peer may catch it."""


class SimDisk(MemoryDisk):
    """`on_sync` is told of each sync, which takes time."""

    def __init__(self, on_sync: Callable[[], None]) -> None:
        super().__init__()
        self.crash_in: int | None = None  # steps until the power goes
        self.fail_in: int | None = None  # steps until one fails
        self.touched: set[str] = set()  # files written to, for whoever wants to know
        self._on_sync = on_sync
        self.before_step = self._before_step
        self.on_durable = lambda name, data: self._on_sync()

    def is_durable(self, names: Collection[str]) -> bool:
        """Whether a power cut would lose nothing of these files. (The mark needs no sync.)"""
        return not self._renames and not any(
            self._files[name].dirty for name in names if name in self._files
        )

    def lose_power(self, rng: random.Random) -> str:
        unsynced = self._renames or any(file.dirty for file in self._files.values())
        self.power_cut(rng)
        return "unsynced writes at risk" if unsynced else "clean"

    def end(self) -> None:
        """The process is gone, and with it what was armed for it."""
        self.crash_in = self.fail_in = self.capacity_bytes = None
        self.restart()

    def _before_step(self, what: str, name: str) -> None:
        if what in ("write", "rename") and not name.endswith(".mark"):
            self.touched.add(name)
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise PowerGone
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in < 0:
                self.fail_in = None
                raise OSError(errno.EIO, "input/output error")
