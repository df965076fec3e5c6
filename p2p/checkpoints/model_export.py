"""The model of a checkpoint as one safetensors file for plain PyTorch: parameters and buffers.

Without torch: the parts are read piece by piece, checked, and the optimizer's tensors left out.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2p.checkpoints.safetensors_file import LENGTH, Entry, Malformed, header, header_bytes, parse
from p2p.errors import P2PError
from p2p.storage.disk import write_output

PIECE_BYTES = 2 * 1024 * 1024
_NOT_THE_MODELS = ("optimizer.", "strategy.")
_WIDTHS = {"64": 8, "32": 4, "16": 2}

# Bytes [offset, offset + count) of the part with this number, fewer at its end.
Read = Callable[[int, int, int], Awaitable[bytes]]


class Unreadable(P2PError):
    """A part is not what was written."""


@dataclass(frozen=True)
class _Part:
    head: bytes
    entries: list[Entry]
    metadata: Mapping[str, str]


async def model_of(read: Read, digests: Sequence[str]) -> tuple[bytes, bytes]:
    """Header and data of the model's file. `digests` by part, "" = unknown. Raises Unreadable."""
    kept: dict[str, tuple[Entry, bytes]] = {}
    metadata: Mapping[str, str] = {}
    for number, digest in enumerate(digests):
        part = await _opened(read, number)
        metadata = part.metadata
        data = bytearray()
        async for piece in _pieces(read, number, len(part.head)):
            data += piece
        if digest and _digest(part.head, data) != digest:
            raise Unreadable("it is not what was written: it was damaged or changed")
        for entry in part.entries:
            if not entry.name.startswith(_NOT_THE_MODELS):
                kept[entry.name] = entry, bytes(data[entry.begin : entry.end])
    placed, at = [], 0
    ordered = sorted(kept.values(), key=lambda pair: (-_width(pair[0].dtype), pair[0].name))
    for entry, raw in ordered:
        placed.append(replace(entry, begin=at, end=at + len(raw)))
        at += len(raw)
    told = {name: metadata[name] for name in ("job", "task", "step") if name in metadata}
    return header(placed, {"format": "pt", **told}), b"".join(raw for _, raw in ordered)


def write_model(path: Path, head: bytes, data: bytes) -> None:
    """Durable under its name, or P2PError and what was there is untouched."""
    view = memoryview(data)
    pieces = (view[at : at + 4 * PIECE_BYTES] for at in range(0, len(data), 4 * PIECE_BYTES))
    try:
        write_output(path, [head, *pieces])
    except OSError as error:
        raise P2PError(f"cannot write {path}: {error.strerror}") from error


async def _opened(read: Read, number: int) -> _Part:
    try:
        size = header_bytes(await read(number, 0, LENGTH.size))
        head = b""
        while len(head) < size:
            more = await read(number, len(head), min(PIECE_BYTES, size - len(head)))
            if not more:
                raise Malformed("it is cut short")
            head += more
        return _Part(head, *parse(head))
    except Malformed as error:
        raise Unreadable(f"it is no checkpoint: {error}") from error


async def _pieces(read: Read, number: int, offset: int) -> AsyncIterator[bytes]:
    while piece := await read(number, offset, PIECE_BYTES):
        yield piece
        offset += len(piece)


def _digest(head: bytes, data: bytearray) -> str:
    whole = hashlib.sha256(head)
    whole.update(data)
    return f"sha256:{whole.hexdigest()}"


def _width(dtype: str) -> int:
    return next((width for digits, width in _WIDTHS.items() if dtype.endswith(digits)), 1)


def told_parts(made: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    """By number the copies of the parts that a model is made of, of a checkpoint as JSON."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for part in made["parts"]:
        if part["number"] < made["count"]:
            found.setdefault(part["number"], []).append(part)
    return dict(sorted(found.items()))
