"""Disk: the only file that writes and syncs. A folder of named files behind a few calls.

A failed write or sync raises DiskFailed and is never retried: after a failed fsync the kernel
may have dropped the dirty pages and marked them clean (Rebello et al., USENIX ATC 2020), so
the only safe reaction is to write nothing more anywhere in the folder, to end the process and to
read the disk again after a restart.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from p2p.errors import P2PError

PIECE_BYTES = 1024 * 1024  # of a large file, written at a time: eight times as much is slower
FLUSH_BYTES = 8 * 1024 * 1024
PAGE_BYTES = 4096  # and what every disk can write by itself
DIRECT_BYTES = 32 * 1024 * 1024  # at a time past the cache: a quarter of it is a tenth slower
RESERVE_BYTES = 1 << 20
TEMPORARY = ".new"  # ends the name of a file that replace() has not put in place yet


class DiskFailed(P2PError):
    """A read, write or sync failed; the peer must end."""


class Unreadable(DiskFailed):
    """The medium cannot give back what was written (EIO): like damaged bytes, not like a refusal
    of the operating system, which the user could lift."""


class Locked(P2PError):
    """Another process holds this folder."""


class Disk(Protocol):
    """All calls raise DiskFailed; after a failed write or sync every further one raises it again.

    "Durable" means: survives a power cut from the moment the call returns.
    """

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes | None:
        """Bytes from `offset`, at most `count`, or None if there is no such file."""

    def size(self, name: str) -> int | None:
        """Bytes in the file, or None if there is none."""

    def append(self, name: str, data: bytes) -> None:
        """Append and make durable before returning, the name of a new file too."""

    def append_unsynced(self, name: str, data: bytes) -> None:
        """Append; a power cut may lose or tear it until sync()."""

    def sync(self, name: str) -> None:
        """Make what was written to the file durable."""

    def sync_names(self) -> None:
        """Make durable which files there are: a killed process may have left a rename unsynced."""

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        """Write inside an existing file; until sync() a power cut may leave old and new sectors."""

    def reserve(self, name: str, size_bytes: int) -> int:
        """Grow the file, durably, to that size or somewhat more; it reads as zeros there.

        Returns its size. Writing inside it is then synced faster, for its size does not change.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in place of the file, durably: readers see the old or the new, never a mix."""

    def rename(self, old: str, new: str) -> None:
        """Durably, in one step, in place of any file called `new`; sync() its content first."""

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut the file to `size_bytes` and make it durable as a whole. Needs no space."""

    def remove(self, name: str) -> None:
        """Durably; nothing happens if it is not there. Needs no space."""

    def names(self) -> list[str]:
        """Files in the folder, sorted."""

    def close(self) -> None: ...


class Folder:
    """The real disk: one folder, locked against a second process.

    Raises Locked when another process has it, DiskFailed when it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, int] = {}  # open for writing, each positioned at its end
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

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes | None:
        try:
            with (self.path / name).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if count is None else count)
        except FileNotFoundError:
            return None
        except OSError as error:
            kind = Unreadable if error.errno == errno.EIO else DiskFailed
            raise kind(f"cannot read {self.path / name}: {error.strerror}") from error

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return None

    def append(self, name: str, data: bytes) -> None:
        with self._writing("write", name):
            file = self._open(name)
            _write_all(file, data)
            os.fdatasync(file)

    def append_unsynced(self, name: str, data: bytes) -> None:
        with self._writing("write", name):
            _write_all(self._open(name), data)

    def sync(self, name: str) -> None:
        with self._writing("sync", name):
            os.fdatasync(self._open(name))

    def sync_names(self) -> None:
        with self._writing("sync", ""):
            sync_folder(self.path)

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        with self._writing("write", name):
            file = self._open(name)
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written

    def reserve(self, name: str, size_bytes: int) -> int:
        size_bytes += -size_bytes % RESERVE_BYTES
        with self._writing("reserve space in", name):
            file = self._open(name)
            try:
                os.posix_fallocate(file, 0, size_bytes)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                os.ftruncate(file, size_bytes)  # a file system that cannot
            os.fsync(file)
            return os.lseek(file, 0, os.SEEK_END)

    def replace(self, name: str, data: bytes) -> None:
        with self._writing("write", name):
            self._forget(name)
            replace_file(self.path / name, self.path / f".{name}{TEMPORARY}", data)

    def rename(self, old: str, new: str) -> None:
        with self._writing("rename", old):
            self._forget(old)
            self._forget(new)
            (self.path / old).replace(self.path / new)
            sync_folder(self.path)

    def truncate(self, name: str, size_bytes: int) -> None:
        with self._writing("truncate", name):
            file = self._open(name)
            os.ftruncate(file, size_bytes)
            os.lseek(file, 0, os.SEEK_END)
            os.fsync(file)

    def remove(self, name: str) -> None:
        with self._writing("remove", name):
            self._forget(name)
            (self.path / name).unlink(missing_ok=True)
            sync_folder(self.path)

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
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._files[name] = os.open(self.path / name, flags, 0o600)
            if existed:
                os.lseek(self._files[name], 0, os.SEEK_END)
            else:
                sync_folder(self.path)
        return self._files[name]

    def _forget(self, name: str) -> None:
        if name in self._files:
            os.close(self._files.pop(name))

    def _writing(self, what: str, name: str) -> "_Writing":
        if self._broken is not None:  # half a frame may be there: nothing may follow it
            raise self._broken
        return _Writing(self, what, name)

    def failed(self, what: str, name: str, error: OSError) -> DiskFailed:
        """Latch the failure: what the user is told, now and at every later write."""
        self._broken = DiskFailed(failure_sentence(what, str(self.path / name), error))
        return self._broken


class _Writing:
    """Turns the OSError of a write into DiskFailed for good. (A class: it is on every commit.)"""

    __slots__ = ("_folder", "_name", "_what")

    def __init__(self, folder: Folder, what: str, name: str) -> None:
        self._folder, self._what, self._name = folder, what, name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise self._folder.failed(self._what, self._name, error) from error


def failure_sentence(what: str, where: str, error: OSError) -> str:
    return (
        f"cannot {what} {where}: {error.strerror}; the peer stops, nothing acknowledged is lost: "
        "make room or mend the disk, start again"
    )


def replace_file(path: Path, temporary: Path, data: bytes) -> None:
    """Put `data` at `path`, durably and in one step, by way of `temporary` in the same folder.

    Raises OSError; then `path` is as it was and `temporary` is gone.
    """
    replace_by_pieces(path, temporary, [data])


def replace_by_pieces(path: Path, temporary: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """The same with much data: the disk works on one piece while the next is made."""
    _replace(path, temporary, lambda file: _write_behind(file, pieces))


def replace_from_pages(path: Path, temporary: Path, head: bytes, data: memoryview) -> None:
    """The same with `head`, then `data`, straight from memory where the file system can do that
    and `data` begins at a page, here and in the file: it takes next to no processor time, where a
    copy in the kernel's cache takes more than that of the disk."""

    def write(file: int) -> None:
        _write_all(file, head)
        rest = _write_past_cache(file, data)
        _write_behind(
            file, (rest[at : at + PIECE_BYTES] for at in range(0, len(rest), PIECE_BYTES))
        )

    _replace(path, temporary, write)


def _replace(path: Path, temporary: Path, write: Callable[[int], None]) -> None:
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write(file)
            os.fsync(file)
        finally:
            os.close(file)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _write_behind(file: int, pieces: Iterable[bytes | memoryview]) -> None:
    written = begun = os.lseek(file, 0, os.SEEK_CUR)
    for piece in pieces:
        _write_all(file, piece)
        written += len(piece)
        if written - begun >= FLUSH_BYTES:  # begins, and lets go of the cache's copy
            os.posix_fadvise(file, begun, written - begun, os.POSIX_FADV_DONTNEED)
            begun = written


def _write_past_cache(file: int, data: memoryview) -> memoryview:
    """Whole pages of it, if that is possible. Returns what is left to be written."""
    whole, begin = len(data) // PAGE_BYTES * PAGE_BYTES, os.lseek(file, 0, os.SEEK_CUR)
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
        for at in range(0, whole, DIRECT_BYTES):
            _write_all(file, data[at : min(at + DIRECT_BYTES, whole)])
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot, or an odd place
            raise
    fcntl.fcntl(file, fcntl.F_SETFL, flags)
    return data[os.lseek(file, 0, os.SEEK_CUR) - begin :]


def write_output(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Put data where a user asked for it: whole or not at all, except into what is no plain file
    (a device, a pipe), which is written to and never replaced. Follows links. Raises OSError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        return
    replace_by_pieces(target, target.with_name(f".{target.name}.{os.getpid()}"), pieces)


def sync_file(file: int) -> None:
    """What was written to this descriptor is durable when it returns. Raises OSError."""
    os.fsync(file)


def sync_folder(path: Path) -> None:
    """So are the names in the folder. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_all(file: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
