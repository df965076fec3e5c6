"""A titled part of a view: from a scene to lines, without any state of its own.

`Listing` is one with a cursor: its lines are rows, one of them is the selected one. Which one, and
which pane has the keyboard, is in the scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from tui.scene import Line, Scene, text_of
from tui.table import Column, Row, body, fit_columns, head

T = TypeVar("T")
Record = Mapping[str, Any]
Drawn = tuple[Line, str]  # a line and its background's name in the palette


@dataclass(frozen=True, slots=True)
class Box:
    """The room inside a pane, its title not counted."""

    width: int
    height: int
    focused: bool = False


class Pane:
    """Subclasses give `title` and `draw`, and `records` where there is something to export."""

    id: str
    has_title: ClassVar[bool] = True

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        """The name, and what follows it on the title line; asked if `has_title`."""
        raise NotImplementedError

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        """At most `box.height` lines."""
        raise NotImplementedError

    def records(self, scene: Scene) -> list[Record]:
        """What it shows, as an export has it: one flat record per row."""
        return []


class Listing(Pane, Generic[T]):
    """Rows of T. The cursor names a row by its key, so it stays when the rows change."""

    word: ClassVar[str] = "row"
    follows: ClassVar[bool] = False  # without a cursor the last row is shown, else the first

    def all_items(self, scene: Scene) -> Sequence[T]:
        raise NotImplementedError

    def key(self, item: T) -> str:
        raise NotImplementedError

    def line(self, scene: Scene, item: T, width: int) -> Line:
        raise NotImplementedError

    def head(self, scene: Scene, width: int) -> Line | None:
        return None

    def empty(self, scene: Scene) -> str:
        """What to say when there is nothing."""
        return f"no {self.word}s"

    def searched(self, scene: Scene, item: T) -> str:
        """The text in which the view's filter looks."""
        return text_of(self.line(scene, item, 200))

    def copied(self, scene: Scene, item: T) -> str:
        """What of a row could be pasted."""
        return " ".join(text_of(self.line(scene, item, 200)).split())

    # -- what follows from these -------------------------------------------------------------------

    def items(self, scene: Scene) -> Sequence[T]:
        """Those that the view's filter lets through."""
        wanted, items = scene.wanted, self.all_items(scene)
        if not wanted:
            return items
        return [item for item in items if wanted in self.searched(scene, item).lower()]

    def keys(self, scene: Scene) -> list[str]:
        return [self.key(item) for item in self.items(scene)]

    def place(self, scene: Scene, keys: Sequence[str]) -> int:
        """Which row is selected; where nobody chose one, the first, or the last if it follows."""
        cursor = scene.cursors.get(self.id)
        if cursor in keys:
            return keys.index(cursor)
        return max(0, len(keys) - 1) if self.follows else 0

    def rows_at(self, scene: Scene) -> int:
        """Lines above the first row."""
        return 0 if self.head(scene, 80) is None else 1

    def window(self, scene: Scene, keys: Sequence[str], height: int) -> range:
        """The rows that are shown: the selected one in the middle where there are more."""
        total, height = len(keys), max(1, height)
        first = max(0, min(self.place(scene, keys) - height // 2, total - height))
        return range(first, min(total, first + height))

    def selected(self, scene: Scene) -> T | None:
        items = self.items(scene)
        return items[self.place(scene, [self.key(item) for item in items])] if items else None

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        items = self.items(scene)
        if not items:
            told = self.empty(scene)
            if scene.wanted and self.all_items(scene):
                told = f"no {self.word} contains “{scene.filters[scene.view]}”: esc clears it"
            return [([(told, "dim")], "background")]
        keys = [self.key(item) for item in items]
        head_line = self.head(scene, box.width)
        lines: list[Drawn] = [] if head_line is None else [(head_line, "background")]
        at = self.place(scene, keys)
        shows_cursor = not self.follows or scene.cursors.get(self.id) in keys
        for i in self.window(scene, keys, box.height - len(lines)):
            chosen = i == at and shows_cursor
            background = "cursor" if chosen and box.focused else "panel" if chosen else "background"
            lines.append((self.line(scene, items[i], box.width), background))
        return lines

    def counted(self, scene: Scene, box: Box) -> Line:
        """'3 peers', or '4–8 of 12 peers' when some are scrolled or filtered away."""
        keys, total = self.keys(scene), len(self.all_items(scene))
        rows = self.window(scene, keys, box.height - self.rows_at(scene))
        if len(rows) >= total:
            return [(f"{total} {self.word}{'s' * (total != 1)}", "dim")]
        dash = scene.pick("–", "-")
        hidden = f" ({total - len(keys)} filtered)" if len(keys) < total else ""
        first = min(rows.start + 1, rows.stop)
        return [(f"{first}{dash}{rows.stop} of {len(keys)} {self.word}s{hidden}", "dim")]


class Table(Listing[T]):
    """A listing with columns."""

    columns: ClassVar[tuple[Column, ...]]

    def row(self, scene: Scene, item: T, widths: Mapping[str, int]) -> Row:
        raise NotImplementedError

    def head(self, scene: Scene, width: int) -> Line | None:
        return head(fit_columns(self.columns, width))

    def line(self, scene: Scene, item: T, width: int) -> Line:
        fitted = fit_columns(self.columns, width)
        widths = {column.key: size for column, size in fitted}
        return body(fitted, self.row(scene, item, widths), scene.pick("…", "~"))


def untold(scene: Scene, request: str) -> str:
    """What to say where an optional request has no answer (yet)."""
    why = scene.told.untold.get(request)
    if why is not None and "does not know the request" in why:
        return "not told by this peer: it is older than this screen"
    return "waiting for the answer" if why is None else f"not told by this peer: {why}"


def plain_lines(lines: Sequence[Line]) -> list[Drawn]:
    return [(line, "background") for line in lines]
