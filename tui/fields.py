"""Fields of JSON that came from a peer, which may be newer or older than we are.

Missing or ill-typed ones read as unknown; text is cleaned of whatever could steer a terminal.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields as fields_of
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from tui.text import clean

Told = Mapping[str, Any]
T = TypeVar("T")


def rows(answer: Told, key: str) -> Iterator[Told]:
    """The objects in the list at `key`."""
    found = answer.get(key)
    return (row for row in found if isinstance(row, dict)) if isinstance(found, list) else iter(())


def table(answer: Told, key: str) -> Told:
    """The object at `key`, or an empty one."""
    found = answer.get(key)
    return found if isinstance(found, dict) else {}


def text(row: Told, key: str) -> str:
    value = row.get(key)
    return clean(value) if isinstance(value, str) else ""


def texts(row: Told, key: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(clean(item) for item in value if isinstance(item, str))


def finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def number(row: Told, key: str) -> float | None:
    return finite(row.get(key))


def whole(row: Told, key: str) -> int:
    value = number(row, key)
    return 0 if value is None else int(value)


def pair(row: Told, key: str) -> tuple[int, int]:
    """Two whole numbers, [first, last); (0, 0) if they are not that."""
    value = row.get(key)
    if isinstance(value, list) and len(value) == 2:
        first, last = (finite(item) for item in value)
        if first is not None and last is not None:
            return int(first), int(last)
    return 0, 0


def whole_or_none(row: Told, key: str) -> int | None:
    return None if row.get(key) is None else whole(row, key)


# How a field of a dataclass is read, by its type.
_READERS: Mapping[object, Callable[[Told, str], object]] = {
    str: text,
    str | None: lambda row, key: text(row, key) or None,
    int: whole,
    int | None: whole_or_none,
    float: lambda row, key: number(row, key) or 0.0,
    float | None: number,
    bool: lambda row, key: row.get(key) is True,
    tuple[str, ...]: texts,
    tuple[int, int]: pair,
}


def record(kind: type[T], row: Told, **given: object) -> T:
    """A dataclass from those of the row's fields that have its fields' names, but for `given`."""
    readers = _readers(kind)  # type: ignore[arg-type]  # a type is hashable
    read = {name: reader(row, name) for name, reader in readers if name not in given}
    return kind(**read, **given)


@lru_cache
def _readers(kind: type) -> tuple[tuple[str, Callable[[Told, str], object]], ...]:
    hints = get_type_hints(kind)
    names = [field.name for field in fields_of(kind)]
    return tuple((name, _READERS[hints[name]]) for name in names if hints[name] in _READERS)
