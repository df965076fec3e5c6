"""How the screen is cut into panes: rectangles and shares of them, pure."""

from collections.abc import Callable
from dataclasses import dataclass

from tui.pane import Pane

WIDTH_MIN, HEIGHT_MIN = 80, 24


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in cells."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placed:
    pane: Pane
    area: Area


Piece = Pane | Callable[[Area], list[Placed]]


def too_small(width: int, height: int) -> bool:
    return width < WIDTH_MIN or height < HEIGHT_MIN


def down(area: Area, *pieces: tuple[Piece, int]) -> list[Placed]:
    """Pieces below each other, each with its height; those with 0 share what is left."""
    placed: list[Placed] = []
    y = area.y
    for piece, height in _shared(pieces, area.height):
        placed += _put(piece, Area(area.x, y, area.width, height))
        y += height
    return placed


def across(area: Area, *pieces: tuple[Piece, int]) -> list[Placed]:
    """Pieces beside each other, each with its width; those with 0 share what is left."""
    placed: list[Placed] = []
    x = area.x
    for piece, width in _shared(pieces, area.width):
        placed += _put(piece, Area(x, area.y, width, area.height))
        x += width
    return placed


def grid(area: Area, panes: list[Pane], width_min: int, height_min: int) -> list[Placed]:
    """As many of the panes as fit, in equal cells; what is left over goes to the last ones."""
    columns = max(1, min(len(panes), area.width // width_min))
    rows = max(1, min(-(-len(panes) // columns), area.height // height_min))
    shown = panes[: columns * rows]
    columns = -(-len(shown) // rows)

    def row(some: list[Pane]) -> Callable[[Area], list[Placed]]:
        return lambda part: across(part, *((pane, 0) for pane in some))

    lines = [shown[at : at + columns] for at in range(0, len(shown), columns)]
    return down(area, *((row(line), 0) for line in lines))


def share(least: int, want: int, most: int) -> int:
    """`want`, held between the other two (the lower bound wins)."""
    return max(least, min(want, most))


def _put(piece: Piece, area: Area) -> list[Placed]:
    if area.width < 1 or area.height < 1:
        return []
    return [Placed(piece, area)] if isinstance(piece, Pane) else piece(area)


def _shared(pieces: tuple[tuple[Piece, int], ...], total: int) -> list[tuple[Piece, int]]:
    """Every piece with its final size; they fill `total` exactly, the first ones come first."""
    left = max(0, total - sum(size for _, size in pieces))
    open_ = sum(size == 0 for _, size in pieces)
    made, used = [], 0
    for piece, size in pieces:
        if size == 0:
            size = left // open_
            left, open_ = left - size, open_ - 1
        size = min(size, total - used)
        made.append((piece, size))
        used += size
    if made and used < total:
        piece, size = made[-1]
        made[-1] = (piece, size + total - used)
    return made
