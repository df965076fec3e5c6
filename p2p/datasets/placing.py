"""A checked copy of a dataset on this peer: its own at the agreed place, or made of what came.

A copy of its own that differs is the user's business, and a sentence; one that this peer made of
fetched files is made again.
"""

import errno
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from p2p.content.folder import ContentFolder, hash_file
from p2p.content.messages import is_sha256
from p2p.datasets.builtin import Place, place_of
from p2p.datasets.manifest import Manifest, from_bytes
from p2p.datasets.tree import Seen, difference
from p2p.errors import P2PError

MISSING_TOLD_MAX = 64


@dataclass(frozen=True, slots=True)
class Placed:
    """path: the checked copy. differs: the sentence why there is none. missing: (hash, bytes) of
    the next files that must be fetched.
    """

    path: Path | None = None
    differs: str = ""
    missing: tuple[tuple[str, int], ...] = ()


def place(where: str, manifest_file: Path, content: Path, target: Path) -> Placed:
    """Raises P2PError, Usage. `target` is the folder for a copy that is made here."""
    manifest = from_bytes(_read(manifest_file))
    seen, now_ns = Seen(seen_file(target)), time.time_ns()
    try:
        own = place_of(where)
        if _is_there(own.path):
            told = difference(own, manifest, seen, now_ns)
            return Placed(differs=told) if told else Placed(own.path.resolve())
        if target.exists():
            if difference(Place(_inside(target, manifest)), manifest, seen, now_ns) is None:
                return Placed(_inside(target, manifest))
            shutil.rmtree(target)
            _drop_damaged(manifest, ContentFolder(content))
        return _build(manifest, ContentFolder(content), target)
    finally:
        seen.save()


def seen_file(target: Path) -> Path:
    """Where the hashes of the files of a copy are remembered."""
    return target.with_name(f"{target.name}.seen")


def remove(target: Path, manifest_file: Path | None, content: Path) -> None:
    """A copy that was made here, and the files it was made of."""
    for folder in (target, _unfinished(target)):
        shutil.rmtree(folder, ignore_errors=True)
    seen_file(target).unlink(missing_ok=True)
    if manifest_file is not None and manifest_file.is_file():
        contents = ContentFolder(content)
        for file in from_bytes(_read(manifest_file)).files:
            contents.remove(file.sha256)


def _build(manifest: Manifest, content: ContentFolder, target: Path) -> Placed:
    missing: list[tuple[str, int]] = []
    making = _unfinished(target)
    try:
        for file in manifest.files:
            there = making / file.name
            if there.is_file():
                continue
            fetched = content.path / file.sha256
            if not is_sha256(file.sha256) or not fetched.is_file():
                missing.append((file.sha256, file.size))
                if len(missing) == MISSING_TOLD_MAX:
                    break
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            _link(fetched, there)
        if missing:
            return Placed(missing=tuple(dict(missing).items()))
        making.replace(target)
    except OSError as error:
        raise P2PError(f"cannot make a copy in {target}: {error.strerror}") from error
    return Placed(_inside(target, manifest))


def _drop_damaged(manifest: Manifest, content: ContentFolder) -> None:
    """What was damaged in the copy may be so in the folder of contents: a file with two names."""
    for sha256 in {file.sha256 for file in manifest.files}:
        fetched = content.path / sha256
        if fetched.is_file() and hash_file(fetched)[0] != sha256:
            content.remove(sha256)


def _link(fetched: Path, there: Path) -> None:
    try:
        os.link(fetched, there, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(fetched, there)  # a file system without links


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


def _inside(target: Path, manifest: Manifest) -> Path:
    return target / manifest.files[0].name if manifest.kind == "file" else target


def _is_there(path: Path) -> bool:
    """An empty folder, where nothing is mounted now, say, is no copy."""
    try:
        return bool(os.listdir(path)) if path.is_dir() else path.exists()
    except OSError as error:
        raise P2PError(f"cannot read {path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise P2PError(f"cannot read {path}: {error.strerror}") from error
