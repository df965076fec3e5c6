"""One of several: drills, strategies, codecs, checkpoints. What cannot be is shown with the why."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.proposal import Choice, Menu, Refusal
from tui.text import fit

NAME_WIDTH_MAX = 24


class ChooseScreen(ModalScreen[Choice | None]):
    """Dismissed with the choice, or None."""

    BINDINGS: ClassVar = [
        Binding("escape,q", "dismiss(None)", "cancel"),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("ctrl+c,ctrl+q", "app.quit", "quit", priority=True),
    ]

    def __init__(self, menu: Menu) -> None:
        super().__init__()
        self.menu = menu

    def compose(self) -> ComposeResult:
        width = min(NAME_WIDTH_MAX, max((len(one.shown) for one in self.menu.choices), default=1))
        options = [
            Option(
                Content(f"{fit(choice.shown, width)}  {_note(choice)}"),
                disabled=isinstance(choice.made, Refusal),
            )
            for choice in self.menu.choices
        ]
        with Vertical(classes="box") as box:
            box.border_title = Content(self.menu.title)
            box.border_subtitle = Content("enter chooses, esc leaves")
            yield OptionList(*options, compact=True)
            yield Static(Content(""), classes="hint")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self.menu.choices[event.option_index])

    def action_cursor_down(self) -> None:
        self.query_one(OptionList).action_cursor_down()

    def action_cursor_up(self) -> None:
        self.query_one(OptionList).action_cursor_up()


def _note(choice: Choice) -> str:
    return choice.made.reason if isinstance(choice.made, Refusal) else choice.note
