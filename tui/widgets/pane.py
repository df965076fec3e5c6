"""The base of all panes: a title line and lines below, redrawn only where they changed.

Line API throughout: a DataTable repaints all of itself for one changed cell (four times the cost
of these lines in a measurement), a Static lays out anew and parses markup.
"""

from typing import ClassVar

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.scene import Line, Scene, both_ends, cut_line, greyed, line_width
from tui.widgets.strips import strip


class Pane(Widget):
    """Subclasses give `title` and `draw`; `show` is the only way to change what is seen."""

    can_focus = False
    greys: ClassVar[bool] = True

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.scene = Scene()
        self._strips: list[Strip] = []

    def title(self, width: int) -> tuple[str, Line]:
        """The name and what follows it on the title line."""
        raise NotImplementedError

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        """At most `height` lines of `width` cells, each with its background's name."""
        raise NotImplementedError

    def show(self, scene: Scene) -> None:
        """Draw the scene; only lines that differ are repainted."""
        self.scene = scene
        self.redraw()

    def redraw(self) -> None:
        if not self.is_attached or not self.display:
            return
        before, self._strips = self._strips, self._draw_all()
        if len(before) != len(self._strips):
            self.refresh()
            return
        changed = [
            Region(0, y, self.size.width, 1)
            for y, (old, new) in enumerate(zip(before, self._strips, strict=True))
            if list(old) != list(new)
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        if y < len(self._strips) and self._strips[y].cell_length == self.size.width:
            return self._strips[y]
        return strip([], self.size.width, self.scene.palette)

    def on_resize(self) -> None:
        self.redraw()

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def _draw_all(self) -> list[Strip]:
        width, height = self.size
        if width < 4 or height < 1:
            return []
        palette = self.scene.palette
        grey = self.greys and self.scene.is_greyed
        strips = [strip(self._title_line(width), width, palette)]
        for line, background in self.draw(width - 2, height - 1)[: height - 1]:
            inner = cut_line(greyed(line) if grey else line, width - 2)
            strips.append(strip([(" ", "text"), *inner], width, palette, background))
        while len(strips) < height:
            strips.append(strip([], width, palette))
        return strips

    def _title_line(self, width: int) -> Line:
        name, after = self.title(width - len("── ") - 2)
        rule = self.scene.pick("─", "-")
        left: Line = [
            (rule, "accent" if self.has_focus else "line"),
            (f" {name} ", "accent" if self.has_focus else "strong"),
        ]
        fill = width - line_width(left) - line_width(after) - 3
        if fill < 1:
            return both_ends(left, [], width)
        tone = "accent" if self.has_focus else "line"
        if not after:
            return cut_line([*left, (rule * (width - line_width(left)), tone)], width)
        return cut_line(
            [*left, (rule * fill, tone), (" ", "text"), *after, (f" {rule}", tone)], width
        )


class Bar(Widget):
    """One line of text over the whole width: header or footer."""

    can_focus = False

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
