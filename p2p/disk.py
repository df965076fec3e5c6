"""Disk: the only file that writes and syncs. A folder of named files behind six calls.

A failed write or sync raises DiskFailed and is never retried: after a failed fsync the kernel
may have dropped the dirty pages and marked them clean (Rebello et al., USENIX ATC 2020), so
the only safe reaction is to end the process and read the disk again after a restart.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

from p2p.errors import P2PError


class DiskFailed(P2PError):
    """A write or sync failed; the peer must end."""


class Locked(P2PError):
    """Another process holds this folder."""


class Disk(Protocol):
    def read(self, name: str) -> bytes | None:
        """The whole file, or None if there is none."""

    def append(self, name: str, data: bytes) -> None:
        """Append and make durable before returning."""

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in place of the file, durably: readers see the old or the new, never a mix."""

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut the file to `size_bytes`, durably."""

    def names(self) -> list[str]:
        """Files in the folder, sorted."""

    def close(self) -> None: ...


class Folder:
    """The real disk: one folder, locked against a second process.

    Raises Locked when another process has it, DiskFailed when it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, int] = {}
        self._broken: DiskFailed | None = None
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskFailed(f"cannot use {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Locked(
                f"{path} is in use by another peer: stop it, or give another --data-dir"
            ) from error

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", name, error) from error

    def append(self, name: str, data: bytes) -> None:
        if self._broken is not None:  # half a frame may be there: nothing may follow it
            raise self._broken
        try:
            file = self._open(name)
            _write_all(file, data)
            os.fdatasync(file)
        except OSError as error:
            raise self._failed("write", name, error) from error

    def replace(self, name: str, data: bytes) -> None:
        try:
            replace_file(self.path / name, self.path / f".{name}.new", data)
        except OSError as error:
            raise self._failed("write", name, error) from error

    def truncate(self, name: str, size_bytes: int) -> None:
        try:
            file = self._open(name)
            os.ftruncate(file, size_bytes)
            os.fsync(file)
        except OSError as error:
            raise self._failed("truncate", name, error) from error

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        os.close(self._lock)

    def _open(self, name: str) -> int:
        if name not in self._files:
            existed = (self.path / name).exists()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._files[name] = os.open(self.path / name, flags, 0o600)
            if not existed:
                _sync_folder(self.path)
        return self._files[name]

    def _failed(self, what: str, name: str, error: OSError) -> DiskFailed:
        self._broken = DiskFailed(
            f"cannot {what} {self.path / name}: {error.strerror}; "
            "the peer stops, nothing acknowledged is lost: make room or mend the disk, start again"
        )
        return self._broken


def replace_file(path: Path, temporary: Path, data: bytes) -> None:
    """Put `data` at `path`, durably and in one step, by way of `temporary` in the same folder.

    Raises OSError; then `path` is as it was and `temporary` is gone.
    """
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
