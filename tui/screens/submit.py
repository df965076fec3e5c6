"""What job? The same line as after `p2pnode submit`, read by the same parser."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from p2p.errors import P2PError
from tui.proposal import Proposal

HINT = (
    "TASK is a built-in one (digits, mnist, textgpt) or FILE.py:Class.\n"
    "--epochs N or --steps N, --peers MIN:MAX, --name N, --lr X,\n"
    "--seed N, --global-batch N, --shards V, --data PATH,\n"
    "--strategy S, --codec C, --set key=value"
)


class SubmitScreen(ModalScreen[Proposal | None]):
    """Dismissed with the proposal to carry out, or None."""

    BINDINGS: ClassVar = [
        Binding("escape", "dismiss(None)", "cancel"),
        Binding("ctrl+c,ctrl+q", "app.quit", "quit", priority=True),
    ]

    def __init__(self, read: Callable[[str], Proposal], line: str = "digits ") -> None:
        super().__init__()
        self._read = read
        self._first = line

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = Content("submit a job")
            box.border_subtitle = Content("enter submits, esc leaves")
            yield Static(Content("p2pnode submit …"), classes="cli")
            # Selecting on focus would drop what was typed before a slow terminal gave the focus.
            yield Input(
                self._first,
                placeholder="TASK [--epochs N] …",
                compact=True,
                select_on_focus=False,
            )
            yield Static(Content(""), classes="loss", id="problem")
            yield Static(Content(HINT), classes="hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def submit_line(self, event: Input.Submitted) -> None:
        try:
            self.dismiss(self._read(event.value))
        except P2PError as error:
            self.query_one("#problem", Static).update(Content(str(error)))

    @on(Input.Changed)
    def forget_problem(self) -> None:
        self.query_one("#problem", Static).update(Content(""))
