"""One line, the same as after a command's name, read by the command's own parser."""

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from p2p.errors import P2PError
from tui.lines import Typed


class LineScreen(ModalScreen[Any]):
    """Dismissed with what was read, or None."""

    BINDINGS: ClassVar = [
        Binding("escape", "dismiss(None)", "cancel"),
        Binding("ctrl+c,ctrl+q", "app.quit", "quit", priority=True),
    ]

    def __init__(self, typed: Typed) -> None:
        super().__init__()
        self._typed = typed

    def compose(self) -> ComposeResult:
        typed = self._typed
        with Vertical(classes="box") as box:
            box.border_title = Content(typed.title)
            box.border_subtitle = Content(f"{typed.enter}, esc leaves")
            yield Static(Content(f"{typed.command} …"), classes="cli")
            # Selecting on focus would drop what was typed before a slow terminal gave the focus.
            yield Input(typed.first, compact=True, select_on_focus=False)
            yield Static(Content(""), classes="loss", id="problem")
            yield Static(Content(typed.hint), classes="hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def read_line(self, event: Input.Submitted) -> None:
        try:
            self.dismiss(self._typed.read(event.value))
        except P2PError as error:
            self.query_one("#problem", Static).update(Content(str(error)))

    @on(Input.Changed)
    def forget_problem(self) -> None:
        self.query_one("#problem", Static).update(Content(""))
