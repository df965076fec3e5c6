"""The help screen, made from the table of keys."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import health
from tui.actions import cannot_steer
from tui.keys import GROUPS, KEYS
from tui.scene import Scene
from tui.views.catalog import numbered

CLOSE = "escape,question_mark,f1,q,enter"


def help_text(scene: Scene) -> str:
    """All keys by group, with what those that steer would say now; then what the glyphs mean."""
    ascii_only = scene.ascii_only
    problem = cannot_steer(scene.snapshot, scene.read_only, scene.is_greyed)
    lines: list[str] = [f"Nothing can be steered now: {problem.reason}.", ""] if problem else []
    for group in GROUPS:
        lines += [group.upper()]
        if group == "Views":
            lines += [f"  {digit:<7} {view.title}: {view.summary}" for digit, view in numbered()]
        else:
            lines += [
                f"  {key.shown:<7} {key.help}" for key in KEYS if key.group == group and key.shown
            ]
        lines += [""]
    lines += ["SIGNS"]
    for marks in (health.PEER_MARKS, health.ROLE_MARKS, health.JOB_MARKS):
        signs = [f"{mark.icon(ascii_only)} {mark.word}" for mark in marks.values()]
        for start in range(0, len(signs), 4):
            lines.append(
                "  " + "".join(f"{sign:<14}" for sign in signs[start : start + 4]).rstrip()
            )
    here = health.SELF_PLAIN if ascii_only else health.SELF_GLYPH
    lines += [f"  {here} the peer this screen is attached to"]
    return "\n".join(lines)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar = [
        Binding(CLOSE, "dismiss", "close"),
        Binding("ctrl+c,ctrl+q", "app.quit", "quit", priority=True),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="box help") as box:
            box.border_title = Content("keys")
            box.border_subtitle = Content("esc closes")
            yield Static(Content(help_text(self._scene)))

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
