"""The line in which a prompt is typed. Letters are letters here, whatever they do elsewhere."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding
from textual.widgets import Input

NEWLINE = "↵"  # as the line shows the end of one


def _on_one_line(text: str) -> str:
    return NEWLINE.join(text.splitlines()) + NEWLINE * text.endswith("\n")


class AskingInput(Input):
    """What was typed stays when the line is left, and when an earlier prompt is looked at."""

    BINDINGS: ClassVar = [
        Binding("enter", "app.send", "ask", priority=True),
        Binding("escape", "app.leave_asking", "leave", priority=True),
        Binding("tab,shift+tab", "app.leave_line", show=False, priority=True),
        Binding("up", "app.recall(-1)", show=False, priority=True),
        Binding("down", "app.recall(1)", show=False, priority=True),
        Binding("ctrl+j,alt+enter", "app.type_newline", show=False, priority=True),
        Binding("pageup", "app.scroll_talk(-10)", show=False, priority=True),
        Binding("pagedown", "app.scroll_talk(10)", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__(
            placeholder="type a prompt (enter asks, ↑ ↓ earlier ones, esc leaves)",
            id="asking",
            compact=True,
            select_on_focus=False,
        )
        self.display = False
        self._back = 0  # how many prompts before the one that is being typed is shown
        self._draft = ""

    def begin(self) -> None:
        self.display = True
        self.focus()

    def leave(self) -> None:
        self.display = False

    @property
    def prompt(self) -> str:
        return self.value.replace(NEWLINE, "\n")

    def insert_newline(self) -> None:
        self.insert_text_at_cursor(NEWLINE)

    def _on_paste(self, event: events.Paste) -> None:
        """All lines of it; the base class would take the first."""
        self.insert_text_at_cursor(_on_one_line(event.text))
        event.stop()
        event.prevent_default()

    def sent(self) -> None:
        """What was typed is asked."""
        self._back, self._draft, self.value = 0, "", ""

    def recall(self, prompts: Sequence[str], delta: int) -> None:
        """An earlier prompt (`delta` -1) or a later one; after the last comes what was typed."""
        back = max(0, min(self._back - delta, len(prompts)))
        if back == self._back:
            return
        if not self._back:
            self._draft = self.value
        self._back = back
        self.value = _on_one_line(prompts[-back]) if back else self._draft
        self.cursor_position = len(self.value)
