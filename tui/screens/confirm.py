"""Yes or no, with the target, the consequence and the command named. No is the default."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.proposal import Proposal


class ConfirmScreen(ModalScreen[bool]):
    BINDINGS: ClassVar = [
        Binding("y,Y", "answer(True)", "yes"),
        Binding("n,N,escape,q", "answer(False)", "no"),
        Binding("left,right,h,l", "app.focus_next", show=False),
        Binding("ctrl+c,ctrl+q", "app.quit", "quit", priority=True),
    ]

    def __init__(self, proposal: Proposal) -> None:
        super().__init__()
        self.proposal = proposal

    def compose(self) -> ComposeResult:
        asked = self.proposal
        with Vertical(classes="box danger" if asked.danger else "box") as box:
            box.border_title = Content(asked.title)
            for line in asked.danger:
                yield Static(Content(line), classes="loss")
            for line in asked.lines:
                yield Static(Content(line))
            yield Static(Content(asked.cli), classes="cli")
            with Horizontal(classes="answers"):
                yield Button(Content("No (n)"), id="no", compact=True)
                yield Button(Content("Yes (y)"), id="yes", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
