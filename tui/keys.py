"""The one table of keys: bindings, footer, greying, palette and help are all made from it."""

from dataclasses import dataclass
from typing import Literal

Group = Literal["Views", "Move", "Prompt", "Screen", "Cluster", "Job"]


@dataclass(frozen=True, slots=True)
class Key:
    """`keys` in Textual's names; `shown` as printed; `action` as Textual calls it.

    `steers` names what the key proposes (PLANS in tui/actions.py, LINES in tui/lines.py); None only
    looks, or asks a model.
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


def _look(keys: str, shown: str, action: str, label: str, help: str, footer: int = 0) -> Key:
    return Key(keys, shown, action, label, help, "Screen", None, footer)


def _move(keys: str, shown: str, action: str, label: str, help: str, footer: int = 0) -> Key:
    return Key(keys, shown, action, label, help, "Move", None, footer)


def _prompt(key: str, action: str, label: str, help: str, footer: int = 0) -> Key:
    return Key(key, key, action, label, help, "Prompt", None, footer)


def _steer(key: str, plan: str, label: str, help: str, group: Group, footer: int = 0) -> Key:
    return Key(key, key, f"steer('{plan}')", label, help, group, plan, footer)


KEYS = (
    Key("1", "0–9", "view(1)", "views", "the views, in the order of the tabs", "Views"),
    *(Key(str(digit), "", f"view({digit})", "", "", "Views") for digit in (*range(2, 10), 0)),
    _move("enter", "enter", "open_selected", "open", "the selected line's own view"),
    _move("escape", "esc", "step_back", "back", "one layer back: answer, filter, large pane, view"),
    _move("slash", "/", "filter", "filter", "show only lines that contain a text", 3),
    _move("tab", "tab", "pane(1)", "pane", "next list (shift+tab: back)", 9),
    _move("shift+tab", "", "pane(-1)", "", ""),
    _move("down,j", "j ↓", "cursor(1)", "down", "down one line"),
    _move("up,k", "k ↑", "cursor(-1)", "up", "up one line"),
    _move("pagedown,ctrl+d", "pgdn", "cursor(10)", "page down", "ten lines down"),
    _move("pageup,ctrl+u", "pgup", "cursor(-10)", "page up", "ten lines up"),
    _move("g,home", "g", "cursor_first", "first", "first line"),
    _move("G,end", "G", "cursor_last", "last", "last line; events: follow again"),
    _prompt("i", "ask", "ask", "type a prompt (↑ ↓: earlier ones); enter asks", 10),
    _prompt("o", "options", "options", "its options: temperature, tokens, seed …"),
    _prompt("n", "afresh", "afresh", "a new conversation"),
    _look("question_mark,f1", "?", "help", "help", "this help (again or esc: close)", 1),
    _look("q,ctrl+c,ctrl+q", "q", "quit", "quit", "leave; the cluster goes on", 2),
    _look("colon,ctrl+p", ":", "command_palette", "commands", "every command by name", 8),
    _look("space", "space", "freeze", "freeze", "freeze the display; the feed goes on", 12),
    _look("m", "m", "maximise", "large", "the pane with the keyboard alone"),
    _look("c", "c", "chart", "curve", "next curve: loss, accuracy, samples/s", 13),
    _look("w", "w", "smooth", "smooth", "smooth the curves: 0, 0.6, 0.9"),
    _look("v", "v", "level", "level", "events: all, warnings, errors"),
    _look("plus,equals_sign", "+", "faster", "faster", "refresh twice as often"),
    _look("minus", "-", "slower", "slower", "refresh half as often"),
    _look("r", "r", "refresh_now", "refresh", "ask now; when offline, try again now"),
    _look("t", "t", "theme", "theme", "next theme: dark, light, clear, mono"),
    _look("e", "e", "export", "export", "write what is shown as JSON and CSV files"),
    _look("y", "y", "copy", "copy", "copy the selected line"),
    _look("ctrl+s", "ctrl+s", "picture", "picture", "write the screen as an SVG file"),
    _look("p", "p", "play", "play", "replay: play or stop"),
    _look("left_square_bracket,left", "[", "rewind(-1)", "rewind", "replay: back"),
    _look("right_square_bracket,right", "]", "rewind(1)", "forward", "replay: on"),
    _steer("A", "add", "add", "add a peer on the attached peer's host", "Cluster", 4),
    _steer("X", "remove", "remove", "remove the selected peer (drains first)", "Cluster", 5),
    _steer("F", "fault", "fault", "a drill on the selected peer: kill, partition …", "Cluster", 6),
    _steer("K", "kill", "kill", "kill the selected peer (needs --allow-faults)", "Cluster"),
    _steer("L", "transfer", "lead", "make the selected peer the leader", "Cluster", 14),
    _steer("N", "note", "note", "note the selected alert (acknowledge it)", "Cluster"),
    _steer("S", "submit", "submit", "submit a job", "Job", 7),
    _steer("J", "pause", "pause/resume", "pause the selected job, or resume it", "Job", 11),
    _steer("C", "cancel", "cancel", "cancel the selected job", "Job", 15),
    _steer("W", "checkpoint", "save", "write a checkpoint of the selected job", "Job", 16),
    _steer("R", "restore", "restore", "a new job from one of its checkpoints", "Job"),
    _steer("T", "strategy", "strategy", "how the job's trainers exchange", "Job"),
    _steer("Z", "codec", "codec", "how its gradients travel", "Job"),
    _steer("M", "serve", "serve", "let peers answer prompts with what a job trained", "Job"),
    _steer("U", "unserve", "unserve", "let the selected model go", "Job"),
)
GROUPS: tuple[Group, ...] = ("Views", "Prompt", "Screen", "Cluster", "Job", "Move")


def footer_keys() -> list[Key]:
    """In the order of their rank: the first ones stay when the screen is narrow."""
    return sorted((key for key in KEYS if key.footer), key=lambda key: key.footer)
