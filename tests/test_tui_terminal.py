"""p2ptui in a real pseudo-terminal: it follows the size, gives the terminal back on every way out,
and does not depend on being read. No peer answers: it opens, looks for one, and says so.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tools.terminal import Terminal

P2PTUI = [sys.executable, "-P", "-m", "tui.cli", "127.0.0.1:1"]
THEMES = 40  # changes of all cells, more than a terminal and Textual's queue keep for later
END_WITHIN_S = 10.0
GROWTH_BYTES_MAX = 8e6

Open = Callable[[], Terminal]


@pytest.fixture
def open_(tmp_path: Path) -> Iterator[Open]:
    """Opens screens in a folder of their own, and closes them."""
    (tmp_path / "run").mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("P2P_")}
    own = {"P2P_RUNTIME_DIR": str(tmp_path / "run"), "XDG_CONFIG_HOME": str(tmp_path)}
    opened: list[Terminal] = []

    def open_one() -> Terminal:
        opened.append(Terminal(P2PTUI, (80, 24), {**kept, **own}, tmp_path))
        opened[-1].until(lambda text: "127.0.0.1:1: attempt" in text and "q quit" in text)
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


def ended(terminal: Terminal, code: int) -> None:
    """It ends with this code, and the terminal is as it was."""
    assert terminal.wait(END_WITHIN_S) == code
    terminal.drain()
    assert terminal.modes_left_on() == set()
    assert terminal.attributes() == terminal.attributes_before


def test_it_follows_the_size_and_q_leaves(open_: Open) -> None:
    terminal = open_()
    assert terminal.modes_left_on() > {"1049", "1000", "25"}
    for width, height in ((120, 40), (80, 24)):
        terminal.resize(width, height)
        rule = "─ peers " if width < 100 else "─ ring "
        terminal.until(
            lambda text, height=height, rule=rule: (  # type: ignore[misc]
                rule in text and "q quit" in text.split("\n")[height - 1]
            )
        )
        assert max(map(len, terminal.text().split("\n"))) <= width
    terminal.resize(40, 10)
    terminal.until(lambda text: "this terminal is 40x10" in text)
    terminal.type("q")
    ended(terminal, 0)


@pytest.mark.parametrize(
    ("how", "code"), [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_terminal_is_given_back(open_: Open, how: "str | signal.Signals", code: int) -> None:
    terminal = open_()
    if isinstance(how, str):
        terminal.type(how)
    else:
        terminal.signal(how)
    ended(terminal, code)


def test_ctrl_c_is_heard_in_it_when_the_tests_run_in_the_background() -> None:
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Terminal(["sh", "-c", "echo begun; sleep 60"]) as terminal:
            terminal.until(lambda text: "begun" in text)
            terminal.type("\x03")
            assert terminal.wait(END_WITHIN_S) == 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, ours)


def test_a_terminal_that_stops_reading_neither_stops_nor_feeds_it(
    open_: Open, tmp_path: Path
) -> None:
    terminal = open_()
    terminal.resize(200, 60)
    process = psutil.Process(terminal.pid)
    before = process.memory_info().rss
    terminal.hold()
    _change_all_cells(terminal)
    terminal.type("4e")  # a file is written, though nobody reads the screen
    deadline_s = time.monotonic() + 30.0
    while not list(tmp_path.glob("p2ptui-data-*.json")):
        assert time.monotonic() < deadline_s, "it stands still"
        time.sleep(0.02)
    assert process.memory_info().rss - before < GROWTH_BYTES_MAX
    terminal.go_on()
    terminal.until(lambda text: "[4 Data]" in text and "─ datasets ─" in text)
    terminal.hold()
    _change_all_cells(terminal)
    terminal.signal(signal.SIGTERM)
    ended(terminal, 143)


def _change_all_cells(terminal: Terminal) -> None:
    """Again and again. Not faster than it can draw, or several would be drawn as one."""
    for _ in range(THEMES):
        terminal.type("t")
        time.sleep(0.02)
