"""The files of a copy of a dataset on this disk: read, hashed, compared with the manifest.

Only regular files count; what begins with a dot is left out. A file whose size, time and inode are
those of the last time is not read again.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from p2p.datasets.builtin import Place
from p2p.datasets.manifest import FILES_MAX, File, Manifest, check_name, made_of
from p2p.errors import P2PError, Usage

DEPTH_MAX = 64
READ_BYTES = 1 << 20


class Seen:
    """What a file's hash was, by (path, size, times, inode): kept in a file between runs.

    A file that was changed less than a moment before it was read is not remembered, for it might
    change again within the same tick of its file system's clock (Git's "racy" entries).
    """

    RACY_NS = 2_000_000_000

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._used: dict[str, list[object]] = {}  # what is kept: others are of files that went
        if path is not None:
            try:
                told = json.loads(path.read_bytes())
                self._known = told if isinstance(told, dict) else {}
            except (OSError, ValueError):
                self._known = {}

    def find(self, path: Path, found: os.stat_result) -> str | None:
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:-1] == _identity(found):
            self._used[str(path)] = known
            return str(known[-1])
        return None

    def note(self, path: Path, found: os.stat_result, sha256: str, now_ns: int) -> None:
        if now_ns - max(found.st_mtime_ns, found.st_ctime_ns) > self.RACY_NS:
            self._used[str(path)] = [*_identity(found), sha256]

    def save(self, path: Path | None = None) -> None:
        """Silently nothing where it cannot be written: it only saves time."""
        path = path or self._path
        if path is None or self._used == self._known:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self._used))
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)


def scan(place: Place, seen: Seen, now_ns: int) -> Manifest:
    """The manifest of the file or folder there. Raises Usage, P2PError."""
    path = place.path
    try:
        root = path.resolve(strict=True)
        if root.is_dir():
            names = place.names or list(_names(root, "", 0))
            files = [_file(root / name, name, seen, now_ns) for name in names]
            return made_of("folder", files)
        return made_of("file", [_file(root, path.name, seen, now_ns)])
    except OSError as error:
        raise P2PError(f"cannot read {error.filename or path}: {error.strerror}") from error


def difference(place: Place, manifest: Manifest, seen: Seen, now_ns: int) -> str | None:
    """The sentence that names the first file that differs, or None. Raises P2PError."""
    path = place.path
    try:
        root = path.resolve(strict=True)
        if root.is_dir() != (manifest.kind == "folder"):
            return f"{path} is a {'folder' if root.is_dir() else 'file'}, not a {manifest.kind}"
        if manifest.kind == "file":
            return _differs(root, manifest.files[0], seen, now_ns)
        there = place.names or frozenset(_names(root, "", 0))
        for file in manifest.files:
            if file.name not in there:
                return f"{path} lacks {file.name}"
        extra = sorted(there - {file.name for file in manifest.files})
        if extra:
            return f"{path} has {extra[0]}, which is not in the dataset"
        for sizes_only in (True, False):  # what is cheap to see first
            for file in manifest.files:
                told = _differs(root / file.name, file, seen, now_ns, sizes_only)
                if told:
                    return told
    except OSError as error:
        raise P2PError(f"cannot read {error.filename or path}: {error.strerror}") from error
    return None


def _differs(
    path: Path, file: File, seen: Seen, now_ns: int, sizes_only: bool = False
) -> str | None:
    size = path.lstat().st_size
    if size != file.size:
        return f"{path} has {size} bytes, {file.size} in the dataset"
    if sizes_only:
        return None
    sha256 = _hash(path, seen, now_ns)[0]
    if sha256 != file.sha256:
        return f"{path} has other content than in the dataset ({sha256[:12]}…)"
    return None


def _names(root: Path, below: str, depth: int) -> Iterator[str]:
    """Relative names of all files, in no order. Raises Usage, OSError."""
    if depth > DEPTH_MAX:
        raise Usage(f"{root / below} is nested more than {DEPTH_MAX} folders deep")
    count = 0
    with os.scandir(root / below) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _names(root, f"{name}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                check_name(name)
                count += 1
                if count > FILES_MAX:
                    raise Usage(f"{root / below} has more than {FILES_MAX} files: pack them")
                yield name
            else:
                kind = "a symbolic link" if entry.is_symlink() else "no regular file"
                raise Usage(f"{root / name} is {kind}: a dataset has regular files only")


def _file(path: Path, name: str, seen: Seen, now_ns: int) -> File:
    sha256, size = _hash(path, seen, now_ns)
    return File(name, size, sha256)


def _hash(path: Path, seen: Seen, now_ns: int) -> tuple[str, int]:
    """(SHA-256, bytes). Raises Usage for what is no file, P2PError if it changes meanwhile."""
    # Neither waits for a writer of a pipe nor follows a link that was put there just now.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(file, "rb", buffering=0) as reader:
        before = os.fstat(reader.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise Usage(f"{path} is no regular file")
        known = seen.find(path, before)
        if known is not None:
            return known, before.st_size
        digest, size = hashlib.sha256(), 0
        while data := reader.read(READ_BYTES):
            digest.update(data)
            size += len(data)
            if size > before.st_size:
                break
        after = os.fstat(reader.fileno())
    if size != before.st_size or _identity(before) != _identity(after):
        raise P2PError(f"{path} changed while it was read: try again when nobody writes to it")
    sha256 = digest.hexdigest()
    seen.note(path, before, sha256, now_ns)
    return sha256, size


def _identity(found: os.stat_result) -> list[object]:
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return [found.st_size, *times, found.st_ino, found.st_dev]
