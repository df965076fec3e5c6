"""The one table of keys: bindings, footer, greying and the help screen are all made from it."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["Move", "Screen", "Cluster", "Job"]


@dataclass(frozen=True, slots=True)
class Key:
    """`keys` in Textual's names; `shown` as printed; `action` as Textual calls it.

    `steers` names the plan (tui/actions.py) the key proposes, or "submit"; None only looks.
    `footer` is the rank in the footer, 0 = not there.
    """

    keys: str
    shown: str
    action: str
    label: str
    help: str
    group: Group
    steers: str | None = None
    footer: int = 0


KEYS = (
    Key("tab", "tab", "focus_next", "pane", "next pane (shift+tab: back)", "Move", footer=9),
    Key("shift+tab", "", "focus_previous", "", "", "Move"),
    Key("down,j", "j ↓", "cursor(1)", "down", "down one line", "Move"),
    Key("up,k", "k ↑", "cursor(-1)", "up", "up one line", "Move"),
    Key("g,home", "g", "cursor_first", "first", "first line", "Move"),
    Key("G,end", "G", "cursor_last", "last", "last line", "Move"),
    Key(
        "question_mark,f1",
        "?",
        "help",
        "help",
        "this help (again or esc: close)",
        "Screen",
        footer=1,
    ),
    Key("q,ctrl+c,ctrl+q", "q", "quit", "quit", "leave; the cluster goes on", "Screen", footer=2),
    Key("c", "c", "chart", "curve", "next curve: loss, accuracy, samples/s", "Screen", footer=11),
    Key(
        "space",
        "space",
        "freeze",
        "freeze",
        "freeze the display; the feed goes on",
        "Screen",
        footer=12,
    ),
    Key("plus,equals_sign", "+", "faster", "faster", "refresh twice as often", "Screen"),
    Key("minus", "-", "slower", "slower", "refresh half as often", "Screen"),
    Key("r", "r", "refresh_now", "refresh", "ask now; when offline, try again now", "Screen"),
    Key("t", "t", "theme", "theme", "next theme: dark, light, mono", "Screen"),
    Key(
        "A",
        "A",
        "steer('add')",
        "add",
        "add a peer on the attached peer's host",
        "Cluster",
        "add",
        3,
    ),
    Key(
        "X",
        "X",
        "steer('remove')",
        "remove",
        "remove the selected peer (drains first)",
        "Cluster",
        "remove",
        4,
    ),
    Key(
        "K",
        "K",
        "steer('kill')",
        "kill",
        "kill the selected peer (needs --allow-faults)",
        "Cluster",
        "kill",
        5,
    ),
    Key(
        "L",
        "L",
        "steer('transfer')",
        "lead",
        "make the selected peer the leader",
        "Cluster",
        "transfer",
        10,
    ),
    Key("S", "S", "submit", "submit", "submit a job", "Job", "submit", 6),
    Key(
        "J",
        "J",
        "steer('pause')",
        "pause/resume",
        "pause the selected job, or resume it",
        "Job",
        "pause",
        7,
    ),
    Key("C", "C", "steer('cancel')", "cancel", "cancel the selected job", "Job", "cancel", 8),
)
GROUPS: tuple[Group, ...] = ("Move", "Screen", "Cluster", "Job")


def footer_keys() -> list[Key]:
    """In the order of their rank: the first ones stay when the screen is narrow."""
    return sorted((key for key in KEYS if key.footer), key=lambda key: key.footer)
