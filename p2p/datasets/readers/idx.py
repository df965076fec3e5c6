"""IDX, as MNIST comes: train-images-idx3-ubyte, gzipped or not; a file is a field of a split."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2p.datasets.readers.reader import (
    Column,
    Description,
    Reader,
    describe_columns,
    each,
    preview_columns,
    split_and_field,
    words_of,
)
from p2p.tasks import idx


def _claims(names: Sequence[str]) -> bool:
    return all("-idx" in name or name.removesuffix(".gz").endswith(".idx") for name in names)


def _columns(root: Path, names: Sequence[str]) -> list[Column]:
    columns = []
    for name, path in each(root, names):
        kind, shape = idx.header(path)
        words = [word for word in words_of(name.removesuffix(".gz")) if not _is_format(word)]
        head = partial(idx.head, path)
        columns.append(Column(*split_and_field(words), kind, shape, head))
    return sorted(columns, key=lambda column: (column.split != "train", column.split))


def _is_format(word: str) -> bool:
    return word in ("idx", "ubyte", "gz") or (word.startswith("idx") and word[3:].isdigit())


def _describe(root: Path, names: Sequence[str]) -> Description:
    return describe_columns("idx", _columns(root, names))


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    return preview_columns(_columns(root, names), limit)


READER = Reader("idx", _claims, _describe, _preview)
