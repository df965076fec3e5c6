"""The folder of files named by their SHA-256. Several processes of one peer may use it at once.

<sha256>        a whole file, checked and synced before it got its name; never changed
<sha256>.part   the beginning of one that is being fetched; a restart goes on with it

What else a peer has (its user's own data, its checkpoints) is offered where it lies. Nobody relies
on that: whoever fetches a file checks its hash.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from p2p.content.messages import NOT_HERE, is_sha256
from p2p.errors import P2PError
from p2p.storage.disk import sync_file, sync_folder

PART = ".part"
DEFAULT_BYTES_MAX = 256 * 10**9
# What a peer leaves free of its disk, for its log must never lack room.
RESERVE_BYTES = 512 << 20
RESERVE_SHARE = 0.05
READ_BYTES = 1 << 20
SYNC_EVERY_BYTES = 64 << 20


class NoRoom(P2PError):
    """A file does not fit under the bound, or onto the disk."""


class ContentFolder:
    """Raises P2PError, with a sentence, wherever the operating system refuses."""

    def __init__(self, path: Path, bytes_max: int = DEFAULT_BYTES_MAX) -> None:
        self.path = path
        self.bytes_max = bytes_max
        # Hashes as bytes and paths as text: a dataset may have 50,000 files.
        self._offers: dict[bytes, str] = {}
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed("make", path, error) from error

    def tidy(self) -> None:
        """Remove what a killed process left half-written and nobody goes on with."""
        for path in self.path.glob(f"*{PART}"):
            if not is_sha256(path.name.removesuffix(PART)):
                path.unlink(missing_ok=True)

    def find(self, sha256: str) -> Path | None:
        """Where a whole file with this hash lies: in the folder, or where it was offered."""
        if not is_sha256(sha256):
            return None
        own = self.path / sha256
        offered = self._offers.get(bytes.fromhex(sha256))
        return own if own.is_file() else Path(offered) if offered else None

    def offer(self, sha256: str, path: Path) -> None:
        """Serve a file from where it lies. It is neither read nor copied now."""
        if is_sha256(sha256):
            self._offers[bytes.fromhex(sha256)] = str(path)

    def withdraw(self, sha256: str) -> None:
        """Forget the offer."""
        if is_sha256(sha256):
            self._offers.pop(bytes.fromhex(sha256), None)

    def remove(self, sha256: str) -> None:
        """The folder's own copy, and a part of one."""
        if is_sha256(sha256):
            for name in (sha256, f"{sha256}{PART}"):
                with contextlib.suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their hash. For what is small: all of it is in memory."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not (self.path / sha256).is_file():
            part = Part(self, sha256, len(data), suffix=f".{os.getpid()}")
            part.append(data)
            part.finish()
        return sha256

    def read(self, sha256: str, size: int, offset: int, count: int) -> bytes | str:
        """A slice of a file that is `size` bytes long, or why not, without naming the path."""
        path = self.find(sha256)
        if path is None:
            return NOT_HERE
        try:
            # Neither a link nor a pipe, whoever put it there meanwhile.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
            file = os.open(path, flags)
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                    return "has another file there now"
                data = os.pread(file, count, offset)
            finally:
                os.close(file)
        except OSError as error:
            return f"cannot read it: {error.strerror}"
        return data if len(data) == count else "has another file there now"

    def begin(self, sha256: str, size: int) -> "Part":
        """A file to be fetched, or to go on with. Raises NoRoom, P2PError."""
        return Part(self, sha256, size)

    def check_room(self, wanted: int, for_what: str) -> None:
        """Raises NoRoom when `wanted` more bytes are too many."""
        try:
            used = sum(entry.stat().st_size for entry in os.scandir(self.path))
            disk = os.statvfs(self.path)
        except OSError as error:
            raise _failed("read", self.path, error) from error
        if used + wanted > self.bytes_max:
            raise NoRoom(
                f"no room for {for_what}: {self.path} has {used} bytes, and {wanted} more would "
                f"be above the bound of {self.bytes_max} (setting files_gb)"
            )
        reserve = min(RESERVE_BYTES, int(disk.f_blocks * disk.f_frsize * RESERVE_SHARE))
        free = disk.f_bavail * disk.f_frsize
        if free - wanted < reserve:
            raise NoRoom(
                f"no room for {for_what}: the disk of {self.path} has {free} bytes free, {wanted} "
                f"are needed and {reserve} are kept for the log; make room"
            )


class Part:
    """A file on its way in: appended to, then finished or discarded. Raises P2PError."""

    def __init__(self, folder: ContentFolder, sha256: str, size: int, suffix: str = "") -> None:
        self.sha256 = sha256
        self._target = folder.path / sha256
        self._path = folder.path / f"{sha256}{suffix}{PART}"
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self.hashed = 0  # bytes from the beginning that the hash has seen
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            self.have = os.fstat(self._file).st_size
            if self.have > size:
                self._cut()
        except OSError as error:
            raise _failed("write", self._path, error) from error
        try:
            folder.check_room(size - self.have, f"a file of {size} bytes")
        except P2PError:
            self.close()
            raise

    def catch_up(self, count: int = 4 << 20) -> bool:
        """Hash some more of what an earlier process wrote; True when all of it is hashed."""
        try:
            data = os.pread(self._file, min(count, self.have - self.hashed), self.hashed)
        except OSError as error:
            self.discard()
            raise _failed("read", self._path, error) from error
        self._hash.update(data)
        self.hashed += len(data)
        return self.hashed >= self.have or not data

    def append(self, data: bytes) -> None:
        try:
            at = self.have
            view = memoryview(data)
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
            self._unsynced += len(data)
            if self._unsynced >= SYNC_EVERY_BYTES:  # so that the last sync takes no minute
                sync_file(self._file)
                self._unsynced = 0
        except OSError as error:
            self.discard()
            raise _failed("write", self._path, error) from error
        self._hash.update(data)
        self.have = self.hashed = at

    def is_sound(self) -> bool:
        return self._hash.hexdigest() == self.sha256

    def restart(self) -> None:
        """All that was written goes."""
        try:
            self._cut()
        except OSError as error:
            raise _failed("write", self._path, error) from error

    def finish(self) -> Path:
        """Give it its name, durably. The caller has asked is_sound()."""
        try:
            os.fchmod(self._file, 0o400)  # it may get other names by links: see p2p.data
            sync_file(self._file)
            self._path.replace(self._target)
            os.close(self._file)
            self._file = -1
            sync_folder(self._target.parent)
        except OSError as error:
            self.discard()
            raise _failed("write", self._target, error) from error
        return self._target

    def close(self) -> None:
        """Stop here; the part stays for later, unless it is empty."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self.have:
                self._path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stop here, and give its room back."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _cut(self) -> None:
        os.ftruncate(self._file, 0)
        self.have = self.hashed = self._unsynced = 0
        self._hash = hashlib.sha256()


def hash_file(path: Path) -> tuple[str, int]:
    """(SHA-256, bytes) of a regular file. Raises P2PError."""
    digest, size = hashlib.sha256(), 0
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(file, "rb", buffering=0) as reader:
            if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
                raise P2PError(f"{path} is no regular file")
            while data := reader.read(READ_BYTES):
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise _failed("read", path, error) from error
    return digest.hexdigest(), size


def _failed(what: str, path: Path, error: OSError) -> P2PError:
    return P2PError(f"cannot {what} {path}: {error.strerror}")
