"""The only widget of the body: it turns the frame of a view into strips, and clicks into rows.

Line API: a DataTable repaints all of itself for one changed cell (four times the cost of these
lines in a measurement), a Static lays out anew and parses markup. Lines that did not change are not
repainted.
"""

from typing import ClassVar

from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.frame import Framed, draw
from tui.pane import Listing
from tui.scene import Line, Scene
from tui.widgets.strips import strip


class Body(Widget, can_focus=True):
    BINDINGS: ClassVar = [
        # Here, for the screen has its own meaning of them, which would come before the app's.
        Binding("tab", "app.pane(1)", show=False),
        Binding("shift+tab", "app.pane(-1)", show=False),
    ]

    class Pointed(Message):
        """A row of a list was clicked; `key` None: only the list."""

        def __init__(self, pane_id: str, key: str | None) -> None:
            super().__init__()
            self.pane_id, self.key = pane_id, key

    class Rolled(Message):
        """The wheel moved over a list."""

        def __init__(self, pane_id: str, delta: int) -> None:
            super().__init__()
            self.pane_id, self.delta = pane_id, delta

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.scene = Scene()
        self._frame: list[Framed] = []
        self._palette = self.scene.palette

    def show(self, scene: Scene) -> None:
        """Draw the scene; only lines of panes that differ are repainted."""
        self.scene = scene
        if not self.is_attached or not self.display or self.size.width < 4:
            return
        before, self._frame = self._frame, draw(scene, *self.size)
        areas = [(framed.pane.id, framed.area) for framed in self._frame]
        if areas != [(old.pane.id, old.area) for old in before] or (
            scene.palette is not self._palette
        ):
            self._palette = scene.palette
            self.refresh()
            return
        changed = [
            Region(new.area.x, new.area.y + y, new.area.width, 1)
            for old, new in zip(before, self._frame, strict=True)
            for y, (was, now) in enumerate(zip(old.lines, new.lines, strict=True))
            if was != now
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        parts, end = [], 0
        for framed in sorted(self._frame, key=lambda framed: framed.area.x):
            area = framed.area
            if area.y <= y < area.y + len(framed.lines):
                line, background = framed.lines[y - area.y]
                parts.append(strip(line, area.width, self.scene.palette, background))
                end = area.x + area.width
        if end < self.size.width:
            parts.append(strip([], self.size.width - end, self.scene.palette))
        return Strip.join(parts).adjust_cell_length(self.size.width)

    def text(self) -> str:
        """What is shown, for tests."""
        return "\n".join(self.render_line(y).text for y in range(self.size.height))

    def on_resize(self) -> None:
        self.show(self.scene)

    def on_click(self, event: events.Click) -> None:
        found = self._list_at(event.x, event.y)
        if found is None:
            return
        framed, pane = found
        keys = pane.keys(self.scene)
        height = framed.area.height - 1 - pane.rows_at(self.scene)
        rows = pane.window(self.scene, keys, height)
        place = event.y - framed.area.y - 1 - pane.rows_at(self.scene)
        key = keys[rows[place]] if 0 <= place < len(rows) else None
        self.post_message(self.Pointed(pane.id, key))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._roll(event.x, event.y, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._roll(event.x, event.y, -1)

    def _roll(self, x: int, y: int, delta: int) -> None:
        found = self._list_at(x, y)
        if found is not None:
            self.post_message(self.Rolled(found[1].id, delta))

    def _list_at(self, x: int, y: int) -> tuple[Framed, Listing[object]] | None:
        for framed in self._frame:
            if Region(*_rectangle(framed)).contains(x, y) and isinstance(framed.pane, Listing):
                return framed, framed.pane
        return None


class Bar(Widget):
    """One line of text over the whole width: header, tabs, slider or footer."""

    can_focus = False

    class Clicked(Message):
        def __init__(self, bar_id: str, x: int) -> None:
            super().__init__()
            self.bar_id, self.x = bar_id, x

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._line: Line = []
        self._scene = Scene()

    def show(self, line: Line, scene: Scene) -> None:
        if line != self._line or scene.palette is not self._scene.palette:
            self._line, self._scene = line, scene
            self.refresh()

    def render_line(self, y: int) -> Strip:
        return strip(self._line, self.size.width, self._scene.palette, "panel")

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(str(self.id), event.x))


def _rectangle(framed: Framed) -> tuple[int, int, int, int]:
    area = framed.area
    return area.x, area.y, area.width, area.height
