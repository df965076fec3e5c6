"""The p2ptui command as a process: exit codes, no terminal, signals."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tui import cli

PATIENCE_S = 30.0
P2PTUI = [sys.executable, "-c", "import sys; from tui.cli import main; sys.exit(main())"]


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


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(number: signal.Signals) -> None:
    """In a real pseudo-terminal, with no peer: it opens, waits, and leaves with 143."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [*P2PTUI, "127.0.0.1:1"], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    try:
        _read_until(master, b"connecting to 127.0.0.1:1: attempt")
        process.send_signal(number)
        rest = _read_until(master, b"\x1b[?1049l")
        assert b"\x1b[?1000l" in rest  # the mouse, too
        assert process.wait(PATIENCE_S) == 143
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline_s = time.monotonic() + PATIENCE_S
    while wanted not in seen:
        left_s = deadline_s - time.monotonic()
        assert left_s > 0, f"never {wanted!r} in {seen[-2000:]!r}"
        if select.select([terminal], [], [], left_s)[0]:
            seen += os.read(terminal, 65536)
    return seen
