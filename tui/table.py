"""Tables for fixed widths: columns that do not fit are left out, the least important first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tui.scene import Line, Span
from tui.text import Align, fit, width_of

GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """`rank`: the highest is dropped first. `grow` > 0: takes a share of the spare width."""

    key: str
    title: str
    width: int
    align: Align = "left"
    rank: int = 0
    grow: int = 0
    width_max: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """`cells` by column key; each cell is one or more spans."""

    id: str
    cells: Mapping[str, Sequence[Span]]


@lru_cache(maxsize=256)
def fit_columns(columns: tuple[Column, ...], width: int) -> tuple[tuple[Column, int], ...]:
    """The columns that fit, in order, each with its final width."""
    kept = list(columns)
    while len(kept) > 1 and _total(kept) > width:
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    spare = max(0, width - _total(kept))
    widths = {column.key: column.width for column in kept}
    growing = [column for column in kept if column.grow]
    while spare > 0 and growing:
        share = sum(column.grow for column in growing)
        given = 0
        for column in list(growing):
            room = (column.width_max or width) - widths[column.key]
            extra = min(room, max(1, spare * column.grow // share), spare - given)
            widths[column.key] += extra
            given += extra
            if widths[column.key] >= (column.width_max or width):
                growing.remove(column)
        if not given:
            break
        spare -= given
    return tuple((column, widths[column.key]) for column in kept)


def head(columns: Sequence[tuple[Column, int]]) -> Line:
    return [
        _padded(fit(c.title, width, c.align), "faint", i) for i, (c, width) in enumerate(columns)
    ]


def body(columns: Sequence[tuple[Column, int]], row: Row, cut: str = "…") -> Line:
    line: Line = []
    for i, (column, width) in enumerate(columns):
        spans = row.cells.get(column.key, ())
        if i:
            line.append((" " * GAP, "text"))
        line.extend(_cell(spans, width, column.align, cut))
    return line


def _cell(spans: Sequence[Span], width: int, align: Align, cut: str) -> Line:
    size = sum(width_of(text) for text, _ in spans)
    if size <= width:
        blank: Span = (" " * (width - size), "text")
        return [blank, *spans] if align == "right" else [*spans, blank]
    made: Line = []
    left = width
    for text, tone in spans:
        if left <= 0:
            break
        made.append((fit(text, left, cut=cut) if width_of(text) > left else text, tone))
        left -= min(left, width_of(text))
    return made


def _padded(text: str, tone: str, index: int) -> Span:
    return (" " * GAP * bool(index) + text, tone)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)
