"""The events, newest at the bottom; it follows them until the user scrolls up."""

from tui.rows import event_line
from tui.scene import Line
from tui.widgets.list_pane import ListPane


class EventsPane(ListPane):
    def ids(self) -> list[str]:
        return [str(event.index) for event in self.scene.snapshot.events]

    def position(self) -> int:
        ids = self.ids()
        return ids.index(self.cursor) if self.cursor in ids else max(0, len(ids) - 1)

    def go(self, place: int) -> None:
        super().go(place)
        if place >= len(self.ids()) - 1:
            self.cursor = None  # at the end: follow what comes
            self.redraw()

    def title(self, width: int) -> tuple[str, Line]:
        events = self.scene.snapshot.events
        after = self.shown_of(self.size.height - 1, "event")
        bad = sum(event.severity == "error" for event in events)
        if bad:
            after = [(f"{bad} error{'s' * (bad != 1)}", "bad"), (", ", "dim"), *after]
        return "events", after

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        events = self.scene.snapshot.events
        if not events:
            return [([("nothing has happened yet", "dim")], "background")]
        return [
            (event_line(events[i], self.scene), self.background(str(events[i].index)))
            for i in self.window(height)
        ]

    def background(self, row: str) -> str:
        return "cursor" if self.has_focus and row == self.cursor else "background"

    def rows_at(self) -> int:
        return 1
