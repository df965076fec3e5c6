"""What a reader of a format gives: how many samples there are, of what, and the first of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from p2p.errors import Usage

Array = npt.NDArray[Any]

SPLITS = {
    **{name: name for name in ("train", "test", "val", "validation", "dev")},
    "t10k": "test",  # as MNIST's files are called
    "valid": "val",
}
VALUES_SHOWN_MAX = 4_096
FIELDS_MAX = 256


@dataclass(frozen=True, slots=True)
class Description:
    """samples: None where only the task knows. `schema` are JSON values."""

    format: str
    samples: int | None
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reader:
    """`claims`, by names only; `describe` and `preview` raise Usage, naming the file, and OSError.

    All take the dataset's root and the relative names of its files, sorted; for a dataset that is
    one file the root is its folder.
    """

    name: str
    claims: Callable[[Sequence[str]], bool]
    describe: Callable[[Path, Sequence[str]], Description]
    preview: Callable[[Path, Sequence[str], int], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Column:
    """One array over the samples of one split. `head(n)` reads its first n rows."""

    split: str
    field: str
    dtype: str
    shape: tuple[int, ...]
    head: Callable[[int], Array | None]


def split_and_field(words: Sequence[str]) -> tuple[str, str]:
    """What "x_train" or "train-images" says, as words: ("train", "x"), ("train", "images")."""
    splits = [SPLITS[word.lower()] for word in words if word.lower() in SPLITS]
    rest = [word for word in words if word.lower() not in SPLITS]
    return splits[0] if splits else "all", "_".join(rest) or "data"


def describe_columns(format_: str, columns: Sequence[Column]) -> Description:
    """Raises Usage when columns of one split have different lengths."""
    if not columns:
        raise Usage(f"the dataset has no arrays: is it {format_}?")
    if len(columns) > FIELDS_MAX:
        raise Usage(f"the dataset has {len(columns)} arrays: as --format files it is not looked at")
    splits: dict[str, tuple[str, int]] = {}
    for column in columns:
        if not column.shape:
            raise Usage(f"{column.field} is one number, not one per sample: try --format files")
        field, count = splits.setdefault(column.split, (column.field, column.shape[0]))
        if count != column.shape[0]:
            raise Usage(
                f"{field} has {count} samples and {column.field} {column.shape[0]}: "
                "they do not belong together (--format files takes it as it is)"
            )
    fields = {column.field: column for column in reversed(columns)}
    shown = [
        {"name": column.field, "dtype": column.dtype, "shape": list(column.shape[1:])}
        for column in reversed(fields.values())
    ]
    counts = {split: count for split, (_, count) in splits.items()}
    schema = {"fields": shown, "splits": counts}
    return Description(format_, sum(counts.values()), schema)


def preview_columns(columns: Sequence[Column], limit: int) -> list[dict[str, Any]]:
    """The first samples, the first split first: `limit` rows in all."""
    rows: list[dict[str, Any]] = []
    for split in dict.fromkeys(column.split for column in columns):
        mine = [column for column in columns if column.split == split]
        count = min(limit - len(rows), mine[0].shape[0])
        heads = {column.field: (column, column.head(count)) for column in mine}
        for i in range(count):
            fields = {
                name: column.dtype if head is None else value_of(head[i])
                for name, (column, head) in heads.items()
            }
            rows.append({"split": split, "index": i, "fields": fields})
    return rows


def value_of(value: Any) -> Any:
    """As JSON: numbers and small arrays as they are, of large ones what they are like."""
    array = np.asarray(value)
    if array.size <= VALUES_SHOWN_MAX:
        return _finite(array.tolist())
    numbers = array.astype(np.float64) if array.dtype.kind in "biuf" else np.zeros(1)
    ends = {"min": float(np.nanmin(numbers)), "max": float(np.nanmax(numbers))}
    return {"dtype": str(array.dtype), "shape": list(array.shape), **_finite(ends)}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, and no bytes."""
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return value if isinstance(value, int | bool | str) else str(value)


def stems(name: str, suffixes: Sequence[str]) -> str | None:
    """The name without the suffix, if it has one of these."""
    for suffix in suffixes:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return None


def words_of(text: str) -> list[str]:
    for mark in "-/.":
        text = text.replace(mark, "_")
    return [word for word in text.split("_") if word]


def all_named(suffixes: Sequence[str]) -> Callable[[Sequence[str]], bool]:
    """Claims a dataset whose files all end so."""
    return lambda names: all(stems(name, suffixes) is not None for name in names)


def each(root: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    return ((name, root / name) for name in names)
