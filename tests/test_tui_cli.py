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


def test_the_screen_and_its_first_question_import_next_to_nothing_of_the_peer() -> None:
    """What is imported before the first frame is most of what a person waits for."""
    program = (
        "import sys, tui.app, tui.giving_back, tui.tape, tui.connect, p2p.client, p2p.verbs.verb;"
        "print(*(name for name in sys.modules if name.startswith(('p2p.', 'collectives'))));"
        "print({'torch', 'numpy', 'safetensors', 'immutables', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    ours, heavy = done.stdout.splitlines()
    assert heavy == "set()", done
    needed = {"client", "errors", "once", "replicated.job_states", "runtime_dir", "settings"}
    needed |= {"verbs.verb", "verbs.pictures", "wire.addresses", "wire.client_link"}
    needed |= {"wire.envelope", "wire.keys", "wire.network", "wire.sockets"}
    packages = {"p2p.replicated", "p2p.verbs", "p2p.wire", "collectives", "collectives.monitor"}
    assert set(ours.split()) - packages == {f"p2p.{name}" for name in needed}


@pytest.mark.parametrize("arguments", [["--wat"], ["--interval", "x"], ["a:1", "b:1"]], ids=str)
def test_a_wrong_flag_is_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.endswith("see `p2ptui --help`\n")


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
