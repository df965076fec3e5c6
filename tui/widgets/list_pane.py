"""A pane with a cursor: the lines are rows, one of them is the selected one."""

from textual import events
from textual.message import Message

from tui.scene import Line
from tui.widgets.pane import Pane


class ListPane(Pane):
    """Holds which row is selected by its id, so that it stays on it when the rows change."""

    can_focus = True

    class Chosen(Message):
        """Another row was selected."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.cursor: str | None = None
        self._offset = 0

    def ids(self) -> list[str]:
        """The rows' ids, in order."""
        raise NotImplementedError

    def position(self) -> int:
        """The selected row's place; the first when the selected one is gone."""
        ids = self.ids()
        return ids.index(self.cursor) if self.cursor in ids else 0

    def move(self, delta: int) -> None:
        self.go(self.position() + delta)

    def go(self, place: int) -> None:
        """Select the row at `place`, held within the list; negative counts as the first."""
        ids = self.ids()
        if ids:
            self.cursor = ids[max(0, min(len(ids) - 1, place))]
            self.post_message(self.Chosen())
            self.redraw()

    def window(self, height: int) -> range:
        """The rows that are shown, such that the selected one is among them."""
        total, at = len(self.ids()), self.position()
        height = max(1, height)
        self._offset = max(min(self._offset, at), at - height + 1, 0)
        self._offset = max(0, min(self._offset, total - height))
        return range(self._offset, min(total, self._offset + height))

    def background(self, row: str) -> str:
        selected = row == self.cursor or (self.cursor not in self.ids() and row == self.ids()[0])
        return "cursor" if selected and self.has_focus else "panel" if selected else "background"

    def shown_of(self, height: int, word: str) -> Line:
        """'3 peers', or '4–8 of 12 peers' when some are scrolled away."""
        total = len(self.ids())
        rows = self.window(height)
        if len(rows) >= total:
            return [(f"{total} {word}{'s' * (total != 1)}", "dim")]
        dash = self.scene.pick("–", "-")
        return [(f"{rows.start + 1}{dash}{rows.stop} of {total} {word}s", "dim")]

    def on_click(self, event: events.Click) -> None:
        place = event.y - self.rows_at()
        if 0 <= place < len(self.window(self.size.height - self.rows_at())):
            self.go(self._offset + place)

    def on_mouse_scroll_down(self) -> None:
        self.move(1)

    def on_mouse_scroll_up(self) -> None:
        self.move(-1)

    def rows_at(self) -> int:
        """Lines above the first row."""
        return 2
