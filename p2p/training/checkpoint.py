"""A run's state as one safetensors file: the same bytes on disk and between two trainers.

Tensors under their own names, everything else in the file's metadata; so it loads anywhere with
`model.load_state_dict(load_file(path), strict=False)`.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from p2p.disk import replace_file
from p2p.errors import P2PError

HEADER_BYTES_MAX = 100_000_000  # the format's own limit
PREFIX = ".new-"


class CheckpointFailed(P2PError):
    """The file could not be written; what was there before is untouched."""


class Damaged(P2PError):
    """The bytes are not a checkpoint that this run can use."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Tensors must be contiguous and share no memory; metadata values become JSON text."""
    text = {"format": "pt", **{key: json.dumps(value) for key, value in metadata.items()}}
    packed: bytes = safetensors.torch.save(dict(tensors), text)
    return packed


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raises Damaged."""
    try:
        (size,) = struct.unpack_from("<Q", data)
        if size > min(HEADER_BYTES_MAX, len(data)):
            raise Damaged("it is cut short")
        text = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        metadata = {key: json.loads(value) for key, value in text.items() if key != "format"}
        return safetensors.torch.load(data), metadata
    except (ValueError, AttributeError, struct.error, safetensors.SafetensorError) as error:
        raise Damaged(f"it is not a checkpoint: {error}") from error


def write(folder: Path, step: int, data: bytes) -> Path:
    """Durable under its final name, or CheckpointFailed and nothing left behind."""
    path = folder / f"step-{step:08d}.safetensors"
    temporary = folder / f"{PREFIX}{path.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, temporary, data)
    except OSError as error:
        raise CheckpointFailed(
            f"cannot write checkpoint {path}: {error.strerror}; make room there, older checkpoints "
            "are untouched"
        ) from error
    return path


def sweep(folder: Path) -> None:
    """Remove what trainers left half-written when they were killed."""
    for path in folder.glob(f"{PREFIX}*"):
        owner = path.name.rpartition(".")[2]
        if not owner.isdigit() or not Path("/proc", owner).exists():
            path.unlink(missing_ok=True)
