"""safetensors: a tensor is a field of a split; its first dimension counts the samples.

Format: 8 bytes with the header's length, little-endian, then JSON {name: {dtype, shape,
data_offsets}}, then the bytes (https://huggingface.co/docs/safetensors).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2p.datasets.readers.reader import (
    Array,
    Column,
    Description,
    Reader,
    all_named,
    describe_columns,
    each,
    preview_columns,
    split_and_field,
    words_of,
)
from p2p.errors import Usage

HEADER_BYTES_MAX = 16 << 20
_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def _columns(root: Path, names: Sequence[str]) -> Iterator[Column]:
    for name, path in each(root, names):
        stem = words_of(name.rpartition(".")[0]) if len(names) > 1 else []
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= HEADER_BYTES_MAX:
                    raise ValueError(f"a header of {length} bytes")
                told = json.loads(file.read(length))
            told.pop("__metadata__", None)
            size = path.stat().st_size - 8 - length
            for field, about in told.items():
                words = [*stem, *words_of(field)]
                yield _column(path, words, about, 8 + length, size)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Usage(f"{path} is damaged or no safetensors file: {error}") from error


def _column(path: Path, words: list[str], about: Any, begins: int, size: int) -> Column:
    shape = tuple(int(length) for length in about["shape"])
    first, last = (int(at) for at in about["data_offsets"])
    kind = _DTYPES.get(str(about["dtype"]))
    if not 0 <= first <= last <= size or any(length < 0 for length in shape):
        raise ValueError(f"{'_'.join(words)} lies beyond its end")
    row = int(np.prod(shape[1:], dtype=np.int64))
    dtype = np.dtype(kind) if kind else None
    if dtype is not None and shape and row * shape[0] * dtype.itemsize != last - first:
        raise ValueError(f"{'_'.join(words)} has another length than its shape")

    def head(count: int) -> Array | None:
        if dtype is None:
            return None  # bfloat16 and the like, which numpy does not have
        with path.open("rb") as file:
            file.seek(begins + first)
            data = file.read(count * row * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(count, *shape[1:])

    return Column(*split_and_field(words), str(dtype or about["dtype"]), shape, head)


def _describe(root: Path, names: Sequence[str]) -> Description:
    return describe_columns("safetensors", list(_columns(root, names)))


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    return preview_columns(list(_columns(root, names)), limit)


READER = Reader("safetensors", all_named((".safetensors",)), _describe, _preview)
