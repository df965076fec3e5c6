"""Fields of JSON that came from a peer, which may be newer or older than we are.

Missing or ill-typed ones read as unknown; text is cleaned of whatever could steer a terminal.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tui.text import clean

Told = Mapping[str, Any]


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
