"""The p2ptui command: exit codes, no terminal. In a terminal: tests/test_tui_terminal.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tui import cli


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer of this user is found, whatever runs on this machine."""
    (tmp_path / "run").mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith("P2P_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("P2P_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_help_imports_nothing_of_weight() -> None:
    program = (
        "import sys, tui.cli; tui.cli.build_parser().format_help();"
        "print({'textual', 'zmq', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--once"], 3, "no peer of yours runs on this host"),
        (["127.0.0.1:1", "--once"], 3, "127.0.0.1:1"),
        (["127.0.0.1:1"], 3, "127.0.0.1:1"),  # not a terminal: as with --once
        (["nonsense"], 2, "'nonsense' is not HOST:PORT"),
        (["127.0.0.1:0"], 2, "not HOST:PORT"),
        (["--interval", "0"], 2, "--interval takes"),
        (["--demo"], 2, "--demo needs a terminal: `p2pnode demo --headless`"),
        (["--token-file", "/nonexistent/token"], 2, "/nonexistent/token"),
    ],
)
def test_exit_codes_and_one_sentence(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == code
    shown = capsys.readouterr()
    assert not shown.out
    assert said in shown.err
    assert shown.err.count("\n") == 1
