"""Which files at a path are a model's weights: found and hashed, in a child of the peer.

A path is one safetensors file; or a folder: then the newest checkpoint in it that is complete, or,
where none is, all safetensors files that it has.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from p2p.checkpoints.safetensors_file import LENGTH, Malformed, header_bytes, parse
from p2p.errors import P2PError, Usage

FILES_MAX = 1_000
READ_BYTES = 4 * 1024 * 1024
_PART = re.compile(r"step-(\d+)(?:\.part-(\d+)-of-(\d+))?\.safetensors")
_TOLD = ("job", "task", "step")


def found(where: Path) -> dict[str, Any]:
    """`files` with name, sha256, bytes and path of each; and the job, task and step that the first
    one names. Raises P2PError.
    """
    try:
        paths = [where] if where.is_file() else _of_folder(where)
        told = _told(paths[0])
        files = [_file(f"{number:05d}", path) for number, path in enumerate(paths)]
    except OSError as error:
        raise P2PError(f"cannot read {where}: {error.strerror}") from error
    return {"files": files, **told}


def folder(where: Path) -> dict[str, Any]:
    """All files of a Hugging Face folder, under their names. Raises P2PError."""
    if not (where / "config.json").is_file():
        raise Usage(f"{where} is no Hugging Face model: it has no config.json")
    try:
        paths = [p for p in sorted(where.iterdir()) if p.is_file() and not p.name.startswith(".")]
        files = [_file(path.name, path) for path in paths]
    except OSError as error:
        raise P2PError(f"cannot read {where}: {error.strerror}") from error
    if len(files) > FILES_MAX:
        raise Usage(f"{where} has {len(files)} files: {FILES_MAX} may be in a model")
    return {"files": files}


def _file(name: str, path: Path) -> dict[str, Any]:
    size_bytes = path.stat().st_size
    return {"name": name, "sha256": _sha256(path), "bytes": size_bytes, "path": str(path)}


def _of_folder(where: Path) -> list[Path]:
    if not where.is_dir():
        raise Usage(f"there is no {where} on this peer's machine")
    paths = sorted(where.glob("*.safetensors"))
    matched = [(match, path) for path in paths if (match := _PART.fullmatch(path.name))]
    for step in sorted({int(match[1]) for match, _ in matched}, reverse=True):
        parts = [(match, path) for match, path in matched if int(match[1]) == step]
        if len(parts) == int(parts[-1][0][3] or 1):
            return [path for _, path in parts]
    if matched:
        raise Usage(f"no checkpoint in {where} has all its parts: other peers have the others")
    if not 0 < len(paths) <= FILES_MAX:
        raise Usage(f"{where} has {len(paths)} safetensors files: 1 to {FILES_MAX} can be a model")
    return paths


def _told(path: Path) -> dict[str, Any]:
    """What the trainer that wrote it said in it; a file of others says nothing."""
    with path.open("rb") as file:
        head = file.read(LENGTH.size)
        try:
            size = header_bytes(head)
            _, metadata = parse(head + file.read(size - len(head)))
        except Malformed as error:
            raise Usage(f"{path} is no safetensors file: {error}") from error
    told = {}
    for name in _TOLD:
        try:
            told[name] = json.loads(metadata[name])
        except (LookupError, ValueError):
            continue
    return told


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            whole.update(piece)
    return whole.hexdigest()
