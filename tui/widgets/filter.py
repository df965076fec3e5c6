"""The line in which the filter of a view is typed; every letter filters at once."""

from typing import ClassVar

from textual.binding import Binding
from textual.widgets import Input


class FilterInput(Input):
    """Enter keeps the filter, esc drops it."""

    BINDINGS: ClassVar = [
        Binding("escape", "app.filter_done(False)", "clear", priority=True),
        Binding("enter,tab,down", "app.filter_done(True)", "keep", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__(
            placeholder="show only lines that contain … (enter keeps, esc clears)",
            id="filter",
            compact=True,
            select_on_focus=False,
        )
        self.display = False

    def begin(self, text: str) -> None:
        self.value = text
        self.cursor_position = len(text)
        self.display = True
        self.focus()
