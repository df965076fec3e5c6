"""numpy's .npz and .npy: an array is a field of a split. Objects are never unpickled."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

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

HEADER_BYTES_MAX = 64 * 1024
Open = Callable[[], IO[bytes]]


def _columns(root: Path, names: Sequence[str]) -> Iterator[Column]:
    for name, path in each(root, names):
        stem = words_of(name.rpartition(".")[0]) if len(names) > 1 else []
        try:
            if name.lower().endswith(".npy"):
                own = stem or words_of(path.stem)
                yield _column(path, own, lambda path=path: path.open("rb"))  # type: ignore[misc]
                continue
            with zipfile.ZipFile(path) as archive:
                members = [info.filename for info in archive.infolist()]
            for member in members:
                words = [*stem, *words_of(member.removesuffix(".npy"))]
                yield _column(path, words, _opener(path, member))
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise Usage(f"{path} is damaged or no numpy file: {error}") from error


def _opener(path: Path, member: str) -> Open:
    return lambda: zipfile.ZipFile(path).open(member)


def _column(path: Path, words: list[str], opened: Open) -> Column:
    with opened() as file:
        shape, _, dtype = _header(file)
    if dtype.hasobject:
        raise Usage(f"{path}: {'_'.join(words)} holds Python objects, which are never unpickled")

    def head(count: int) -> Array | None:
        with opened() as file:
            shape, by_column, dtype = _header(file)
            if by_column and len(shape) > 1:
                return None  # its first rows are all over the file
            row = int(np.prod(shape[1:], dtype=np.int64))
            data = file.read(count * row * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(count, *shape[1:])

    return Column(*split_and_field(words), str(dtype), shape, head)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, by_column, dtype = npy.read_array_header_1_0(file, HEADER_BYTES_MAX)
    else:
        shape, by_column, dtype = npy.read_array_header_2_0(file, HEADER_BYTES_MAX)
    return shape, by_column, dtype


def _describe(root: Path, names: Sequence[str]) -> Description:
    return describe_columns("npz", list(_columns(root, names)))


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    return preview_columns(list(_columns(root, names)), limit)


READER = Reader("npz", all_named((".npz", ".npy")), _describe, _preview)
