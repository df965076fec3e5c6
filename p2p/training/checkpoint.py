"""A run's state as safetensors: between two trainers as one message, on disk in parts.

Tensors under their own names, everything else in the file's metadata; so a whole file loads
anywhere with `model.load_state_dict(load_file(path), strict=False)`.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from p2p.checkpoints.names import TEMPORARY
from p2p.checkpoints.safetensors_file import HEADER_BYTES_MAX, Entry, header
from p2p.errors import P2PError
from p2p.storage.disk import PAGE_BYTES, replace_from_pages
from p2p.training.blame import TaskFailed

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


class CheckpointFailed(P2PError):
    """The file could not be written; what was there before is untouched."""


class Damaged(P2PError):
    """The bytes are not a checkpoint that this run can use."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Tensors must be contiguous and share no memory; metadata values become JSON text."""
    packed: bytes = safetensors.torch.save(dict(tensors), _text(metadata))
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


def places(tensors: Mapping[str, Tensor]) -> list[Entry]:
    """Where each goes in a file: the widest numbers first, as readers that map a file need it."""
    found, at = [], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is None:
            raise TaskFailed(f"{name} is {tensor.dtype}, which no checkpoint can hold")
        found.append(Entry(name, dtype, tuple(tensor.shape), at, at + tensor.nbytes))
        at += tensor.nbytes
    return found


@dataclass(frozen=True)
class Contents:
    """A file to be: its header, whole pages, and its data as they lie in memory."""

    head: bytes
    data: memoryview

    @staticmethod
    def of(entries: list[Entry], data: memoryview, metadata: Mapping[str, Any]) -> "Contents":
        return Contents(header(entries, _text(metadata), PAGE_BYTES), data)

    @property
    def size(self) -> int:
        return len(self.head) + len(self.data)

    @property
    def digest(self) -> str:
        return digest_of(self.head, self.data)


def digest_of(*data: bytes | memoryview) -> str:
    """The SHA-256 of a file of these pieces."""
    whole = hashlib.sha256()
    for piece in data:
        whole.update(piece)
    return f"sha256:{whole.hexdigest()}"


def write(path: Path, contents: Contents) -> None:
    """Durable under its final name, or CheckpointFailed and nothing left behind."""
    temporary = path.parent / f"{TEMPORARY}{path.name}.{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_from_pages(path, temporary, contents.head, contents.data)
    except OSError as error:
        raise CheckpointFailed(
            f"cannot write checkpoint {path}: {error.strerror}; make room there, older checkpoints "
            "are untouched"
        ) from error


def sweep(folder: Path) -> None:
    """Remove what trainers left half-written when they were killed."""
    for path in folder.glob(f"{TEMPORARY}*"):
        owner = path.name.rpartition(".")[2]
        if not owner.isdigit() or not Path("/proc", owner).exists():
            path.unlink(missing_ok=True)


def _text(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {"format": "pt", **{key: json.dumps(value) for key, value in metadata.items()}}
