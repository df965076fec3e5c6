"""The disk's in-memory twin: a page cache over a platter, and everything that can go wrong there.

What a process sees is the cache; what a power cut leaves is the platter and a random part of what
the cache held beyond it. Every call consists of the same steps as on the real disk; before each of
them `before_step` is called, which may raise OSError (the step fails), or anything else (the
process ends there, by a signal or with the power).
"""

import errno
from collections.abc import Callable
from random import Random

from p2p.storage.disk import DiskFailed, failure_sentence

SECTOR_BYTES = 512
RESERVE_BYTES = 1024  # little, so that a thousand of them fit into memory


class _File:
    """`cache` is what readers see, `platter` what is durable, `dirty` where they differ."""

    __slots__ = ("cache", "dirty", "platter")

    def __init__(self, data: bytes = b"") -> None:
        self.cache = bytearray(data)
        self.platter = bytearray(data)
        self.dirty: list[tuple[int, int]] = []

    def write(self, offset: int, data: bytes) -> None:
        self.cache[offset : offset + len(data)] = data
        end = offset + len(data)
        if self.dirty and self.dirty[-1][1] == offset:
            self.dirty[-1] = (self.dirty[-1][0], end)
        else:
            self.dirty.append((offset, end))

    def copy(self) -> "_File":
        other = _File()
        other.cache, other.platter = bytearray(self.cache), bytearray(self.platter)
        other.dirty = list(self.dirty)
        return other


class MemoryDisk:
    """Deterministic: what is random comes from the generator that power_cut() is given."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.steps = 0
        self.before_step: Callable[[str, str], None] = lambda what, name: None
        # (name, bytes that became durable) after every sync; no bytes for a change of names.
        self.on_durable: Callable[[str, bytes], None] = lambda name, data: None
        # The next sync of the file puts its bytes into this file at this offset of the platter;
        # None = nowhere.
        self.stray: dict[str, tuple[str, int] | None] = {}
        self._files: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}  # the folder as the platter has it
        self._renames: list[dict[str, _File]] = []  # what the folder was after each unsynced change
        self._used = 0
        self._broken: DiskFailed | None = None

    # -- the Disk protocol -----------------------------------------------------------------------

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes | None:
        file = self._files.get(name)
        end = None if count is None else offset + count
        return None if file is None else bytes(memoryview(file.cache)[offset:end])

    def size(self, name: str) -> int | None:
        return len(self._files[name].cache) if name in self._files else None

    def append(self, name: str, data: bytes) -> None:
        self.append_unsynced(name, data)
        self.sync(name)

    def append_unsynced(self, name: str, data: bytes) -> None:
        try:
            file = self._open(name)
            self._write(name, file, len(file.cache), data)
        except OSError as error:
            raise self._failed("write", name, error) from error

    def sync(self, name: str) -> None:
        try:
            self._sync(name, self._open(name))
        except OSError as error:
            raise self._failed("sync", name, error) from error

    def sync_names(self) -> None:
        try:
            self._sync_names()
        except OSError as error:
            raise self._failed("sync", "the folder", error) from error

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        try:
            self._write(name, self._open(name), offset, data)
        except OSError as error:
            raise self._failed("write", name, error) from error

    def reserve(self, name: str, size_bytes: int) -> int:
        size_bytes += -size_bytes % RESERVE_BYTES
        try:
            file = self._open(name)
            zeros = bytes(max(0, size_bytes - len(file.cache)))
            self._write(name, file, len(file.cache), zeros)
            self._sync(name, file)
        except OSError as error:
            raise self._failed("reserve space in", name, error) from error
        return len(file.cache)

    def replace(self, name: str, data: bytes) -> None:
        temporary = f".{name}.new"
        try:
            if temporary in self._files:
                self._unlink(temporary)
            file = self._open(temporary)
            self._write(temporary, file, 0, data)
            self._sync(temporary, file)
            self._rename(temporary, name)
        except OSError as error:
            if temporary in self._files:
                self._unlink(temporary)
            raise self._failed("write", name, error) from error

    def rename(self, old: str, new: str) -> None:
        try:
            self._rename(old, new)
        except OSError as error:
            raise self._failed("rename", old, error) from error

    def truncate(self, name: str, size_bytes: int) -> None:
        try:
            file = self._open(name)
            self._step("truncate", name)
            self._used -= max(0, len(file.cache) - size_bytes)
            del file.cache[size_bytes:]
            self._sync(name, file)
        except OSError as error:
            raise self._failed("truncate", name, error) from error

    def remove(self, name: str) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            if name in self._files:
                self._step("remove", name)
                self._unlink(name)
            self._sync_names()
        except OSError as error:
            raise self._failed("remove", name, error) from error

    def names(self) -> list[str]:
        return sorted(self._files)

    def close(self) -> None:
        return

    # -- what happens to it ----------------------------------------------------------------------

    def restart(self) -> None:
        """A new process opens the folder: after kill -9 it sees the cache, synced or not."""
        self._broken = None

    def power_cut(self, rng: Random) -> None:
        """Keep what was synced and a random part of the rest, sector by sector; then restart()."""
        folders = [self._durable, *self._renames]
        self._files = dict(rng.choice(folders))
        for name in sorted(self._files):
            _lose(self._files[name], rng)
        self._durable, self._renames = dict(self._files), []
        self._used = sum(len(file.cache) for file in self._files.values())
        self.restart()

    def write_back(self, name: str) -> None:
        """The kernel does that sooner or later, without being asked."""
        if name in self._files:
            file = self._files[name]
            file.platter, file.dirty = bytearray(file.cache), []

    def flip_bit(self, name: str, bit: int) -> None:
        """Rot: in the cache and on the platter."""
        file = self._files[name]
        file.cache[bit // 8] ^= 1 << bit % 8
        if bit // 8 < len(file.platter):
            file.platter[bit // 8] ^= 1 << bit % 8

    def fail(self, nth: int, error: int) -> None:
        """Let the nth step from now (0 = the next) fail with this errno, once."""
        at = self.steps + nth

        def fail_once(what: str, name: str) -> None:
            if self.steps == at:
                raise OSError(error, "no space left" if error == errno.ENOSPC else "input/output")

        self.before_step = fail_once

    def put(self, name: str, data: bytes) -> None:
        """Set a file from outside, durably."""
        self._files[name] = self._durable[name] = _File(data)
        self._used = sum(len(file.cache) for file in self._files.values())

    def copy(self) -> "MemoryDisk":
        """The same cache and platter, apart from this one; no hooks, no failure."""
        other = MemoryDisk(self.capacity_bytes)
        files: dict[int, _File] = {}
        for folder in (self._files, self._durable, *self._renames):
            for file in folder.values():
                files.setdefault(id(file), file.copy())
        other._files = {name: files[id(file)] for name, file in self._files.items()}
        other._durable = {name: files[id(file)] for name, file in self._durable.items()}
        other._renames = [
            {name: files[id(file)] for name, file in folder.items()} for folder in self._renames
        ]
        other._used = self._used
        return other

    @property
    def files(self) -> dict[str, bytes]:
        """What a process would read now."""
        return {name: bytes(file.cache) for name, file in sorted(self._files.items())}

    def durable_view(self) -> dict[str, bytes]:
        """What is certain to survive a power cut now."""
        return {name: bytes(file.platter) for name, file in sorted(self._durable.items())}

    # -- steps -----------------------------------------------------------------------------------

    def _step(self, what: str, name: str) -> None:
        if self._broken is not None:
            raise self._broken
        try:
            self.before_step(what, name)
        finally:
            self.steps += 1

    def _open(self, name: str) -> _File:
        if name not in self._files:
            self._step("create", name)
            self._renamed({**self._files, name: _File()})
            self._sync_names()
        return self._files[name]

    def _write(self, name: str, file: _File, offset: int, data: bytes) -> None:
        self._step("write", name)
        grows = max(0, offset + len(data) - len(file.cache))
        free = grows if self.capacity_bytes is None else self.capacity_bytes - self._used
        self._used += min(grows, free)
        file.write(offset, data[: len(data) - max(0, grows - free)])
        if grows > free:
            raise OSError(errno.ENOSPC, "no space left")

    def _sync(self, name: str, file: _File) -> None:
        dirty, file.dirty = file.dirty, []  # a failed fsync marks the pages clean all the same
        self._step("sync", name)
        size = len(file.cache)
        for low, high in dirty:
            data = file.cache[low : min(high, size)]
            if len(file.platter) < low + len(data):
                file.platter.extend(bytes(low + len(data) - len(file.platter)))
            place = self.stray.pop(name, (name, low))
            if place is not None and place[0] in self._files:
                self._files[place[0]].platter[place[1] : place[1] + len(data)] = data
            self.on_durable(name, bytes(data))
        del file.platter[size:]
        if dirty and len(file.platter) < size:  # a stray write: the file grew, nothing came there
            file.platter.extend(bytes(size - len(file.platter)))

    def _rename(self, old: str, new: str) -> None:
        self._step("rename", old)
        if old not in self._files:
            raise OSError(errno.ENOENT, "no such file")
        if new in self._files:
            self._used -= len(self._files[new].cache)
        folder = dict(self._files)
        folder[new] = folder.pop(old)
        self._renamed(folder)
        self._sync_names()

    def _unlink(self, name: str) -> None:
        folder = dict(self._files)
        self._used -= len(folder.pop(name).cache)
        self._renamed(folder)

    def _renamed(self, folder: dict[str, _File]) -> None:
        self._files = folder
        self._renames.append(folder)

    def _sync_names(self) -> None:
        self._step("sync names", "")
        self._durable, self._renames = dict(self._files), []
        self.on_durable("", b"")

    def _failed(self, what: str, name: str, error: OSError) -> DiskFailed:
        self._broken = DiskFailed(failure_sentence(what, name, error))
        return self._broken


def _lose(file: _File, rng: Random) -> None:
    """What the platter has after the power went: unsynced sectors are old, new, or missing."""
    old, new = bytes(file.platter), bytes(file.cache)
    if file.dirty or len(old) != len(new):
        fate = rng.choice(("lost", "kept", "short", "holes", "holes"))
        low, high = sorted((len(old), len(new)))
        size = {"lost": len(old), "kept": len(new)}.get(fate) or rng.randint(low, high)
        if fate == "holes":
            size = len(new)
        data = bytearray(old[:size].ljust(size, b"\0"))
        for start, end in file.dirty:
            while start < min(end, size):
                stop = min(start - start % SECTOR_BYTES + SECTOR_BYTES, end, size)
                if fate in ("kept", "short") or (fate == "holes" and rng.random() < 0.5):
                    data[start:stop] = new[start:stop]
                start = stop
        file.platter = data
    file.cache, file.dirty = bytearray(file.platter), []
