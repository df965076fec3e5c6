"""The in-memory disk with what the simulator arms on it: an end of the process, or a failure."""

import errno
import random
from collections.abc import Callable, Collection

from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.sync_mark import MARK_NAME


class PowerGone(BaseException):
    """The crash that was armed for this point; no code of the peer may catch it."""


class SimDisk(MemoryDisk):
    """`on_sync` is told of each sync, which takes time."""

    def __init__(self, on_sync: Callable[[], None]) -> None:
        super().__init__()
        self.crash_in: int | None = None  # steps until the power goes
        self.fail_in: int | None = None  # steps until one fails
        self.touched: set[str] = set()  # files written to, for whoever wants to know
        self.on_sync = on_sync
        self.before_step = self._before_step
        self.on_durable = self._on_durable
        self._astray: set[str] = set()  # files some of whose bytes are not where they belong
        self._unmarked: set[str] = set()  # … and nobody can have been told that they are durable
        self._armed: tuple[str, int] | None = None  # the next such file; steps until the crash

    def is_durable(self, names: Collection[str]) -> bool:
        """Whether a power cut would lose nothing of these files. (The mark needs no sync.)"""
        return not self._renames and not any(
            self._files[name].dirty for name in names if name in self._files
        )

    def go_astray(self, name: str, place: tuple[str, int] | None, crash_after: int) -> None:
        """The next sync of that file writes elsewhere (another file, another offset, nowhere) and
        says that all is well; the power goes so many steps later, and what is read then is wrong.
        """
        self.stray, self._armed = {name: place}, (name, crash_after)

    def lose_power(self, rng: random.Random) -> str:
        if self._astray:
            # Without the mark, or with one that does not count it yet, a lost write at the end is
            # no more than a torn one: a peer cannot tell.
            self.write_back(MARK_NAME)
            for name in sorted(self._unmarked):
                self.write_back(name)
            self._astray, self._unmarked = set(), set()
        unsynced = self._renames or any(file.dirty for file in self._files.values())
        self.power_cut(rng)
        return "unsynced writes at risk" if unsynced else "clean"

    def end(self) -> None:
        """The process is gone, and with it what was armed for it."""
        self.crash_in = self.fail_in = self.capacity_bytes = None
        self.stray, self._armed = {}, None
        self.restart()

    def _on_durable(self, name: str, data: bytes) -> None:
        if self._armed is not None and self._armed[0] == name:
            self._astray.add(name)
            self._unmarked.add(name)
            self.crash_in, self._armed = self._armed[1], None
        self.on_sync()

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
        if what == "write" and name == MARK_NAME:
            self._unmarked.clear()
