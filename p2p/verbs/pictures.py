"""Small pictures as text: one character per pixel or two, the brighter the denser. Pure."""

from typing import Any

RAMP = " .:-=+*#%@"
SIDE_MAX = 64


def picture(value: Any) -> str | None:
    """Rows of numbers (perhaps inside lists of one, perhaps with colours last) as lines; else None.

    A character is twice as high as wide: narrow pictures have their pixels doubled, others have two
    rows in one.
    """
    rows = _grey(value)
    if rows is None:
        return None
    if len(rows[0]) <= SIDE_MAX // 4:
        wide = [[pixel for pixel in row for _ in (0, 1)] for row in rows]
        return _drawn(wide)
    pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
    return _drawn([[sum(two) / len(pair) for two in zip(*pair, strict=True)] for pair in pairs])


def _grey(value: Any) -> list[list[float]] | None:
    while _is_list(value) and len(value) == 1 and _is_list(value[0]) and _is_list(value[0][0]):
        value = value[0]
    if not (_is_list(value) and 2 <= len(value) <= SIDE_MAX and all(map(_is_list, value))):
        return None
    widths = {len(row) for row in value}
    if len(widths) != 1 or not 2 <= widths.copy().pop() <= SIDE_MAX:
        return None
    rows = [[_one(pixel) for pixel in row] for row in value]
    return rows if all(pixel is not None for row in rows for pixel in row) else None  # type: ignore[return-value]


def _one(pixel: Any) -> float | None:
    if isinstance(pixel, int | float):
        return float(pixel)
    if _is_list(pixel) and len(pixel) <= 4 and all(isinstance(part, int | float) for part in pixel):
        return float(sum(pixel) / len(pixel))
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _drawn(rows: list[list[float]]) -> str:
    low = min(map(min, rows))
    span = max(map(max, rows)) - low or 1.0
    last = len(RAMP) - 1
    return "\n".join(
        "".join(RAMP[round((pixel - low) / span * last)] for pixel in row).rstrip() for row in rows
    )
