"""A program in a pseudo-terminal, and what a terminal would show of it: for tests and benchmarks.

The screen is emulated by pyte. Nobody draws it; `text()` is what a person would read.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

READ_BYTES = 65536
KEPT_BYTES = 1 << 20  # of the end of what was written, for the escapes in it
PATIENCE_S = 30.0
# A job in the background, or below nohup, ignores some of them, and so would what it starts.
RESET = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)
ON_AT_FIRST = {"7", "25"}  # wrapping, the cursor
_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_KEYBOARD = re.compile(rb"\x1b\[([<>])[0-9]*u")


class Terminal:
    """Starts `program` at once, in the foreground of this as its controlling terminal. A context
    manager: on leaving the terminal is closed, and the program killed if that did not end it.

    As below a shell, the program does not lead the session: when a leader ends, what it wrote last
    and nobody has read yet is lost.
    """

    def __init__(
        self,
        program: Sequence[str],
        size: tuple[int, int] = (120, 40),
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self._reads = threading.Event()
        self._reads.set()
        self._is_idle = threading.Event()
        self._is_closed = False
        self._written = bytearray()
        self.bytes_read = 0
        self.started_s = time.monotonic()
        self._code: int | None = None
        given = {**(environment or os.environ), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("COLUMNS", "LINES"):
            given.pop(name, None)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, _packed(size))
        self.attributes_before = termios.tcgetattr(slave)
        told, tells = os.pipe()
        self._leader = os.fork()
        if self._leader == 0:
            _lead(program, given, folder or Path.cwd(), slave, tells)
        os.close(slave)
        os.close(tells)
        self._told = os.fdopen(told)
        self.pid = int(self._told.readline())
        self._master = master
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the terminal: the program gets SIGHUP, and SIGKILL if it does not end."""
        self._is_closed = True
        self._reads.set()
        self._reader.join()
        with contextlib.suppress(OSError):
            os.close(self._master)
        try:
            self.wait(2.0)
        except TimeoutError:
            self.signal(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader, signal.SIGKILL)
        os.waitpid(self._leader, 0)
        self._told.close()

    # -- what is shown ---------------------------------------------------------------------------

    def text(self) -> str:
        with self._changed:
            return "\n".join(line.rstrip() for line in self._screen.display)

    def until(self, is_so: Callable[[str], object], within_s: float = PATIENCE_S) -> float:
        """Wait until the text is so; the monotonic time at which it was. Raises TimeoutError."""
        deadline_s = time.monotonic() + within_s
        with self._changed:
            while True:
                told = "\n".join(line.rstrip() for line in self._screen.display)
                if is_so(told):
                    return time.monotonic()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"never so within {within_s:g} s:\n{told}")
                self._changed.wait(left_s)

    def modes_left_on(self) -> set[str]:
        """Private modes (DECSET) that were set and not reset, or the other way round; `keys` for
        the keyboard protocol. Nothing, after a program that gave its terminal back.
        """
        with self._changed:
            told = bytes(self._written)
        on = set(ON_AT_FIRST)
        for modes, what in _MODE.findall(told):
            for mode in modes.decode().split(";"):
                (on.add if what == b"h" else on.discard)(mode)
        pushed = [1 if what == b">" else -1 for what in _KEYBOARD.findall(told)]
        return (on ^ ON_AT_FIRST) | ({"keys"} if sum(pushed) > 0 else set())

    def attributes(self) -> object:
        """termios, as of now; the same as `attributes_before` where they were restored."""
        return termios.tcgetattr(self._master)

    # -- what is done to it ----------------------------------------------------------------------

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, width: int, height: int) -> None:
        with self._changed:
            self._screen.resize(height, width)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, _packed((width, height)))

    def hold(self) -> None:
        """Stop reading, like a terminal that is suspended or a line that hangs."""
        self._reads.clear()

    def go_on(self) -> None:
        self._reads.set()

    def signal(self, number: signal.Signals) -> None:
        if self._code is None:
            os.kill(self.pid, number)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """The exit code, as a shell has it. Raises TimeoutError."""
        if self._code is None:
            if not select.select([self._told], [], [], within_s)[0]:
                raise TimeoutError(f"it did not end within {within_s:g} s:\n{self.text()}")
            code = int(self._told.readline() or -signal.SIGHUP)
            self._code = code if code >= 0 else 128 - code
        return self._code

    def drain(self) -> None:
        """Read what is left after the program's end."""
        self._is_idle.clear()
        self._reads.set()
        self._is_idle.wait(PATIENCE_S)

    def _read(self) -> None:
        while not self._is_closed:
            self._reads.wait()
            if not select.select([self._master], [], [], 0.05)[0]:
                self._is_idle.set()
                continue
            if not self._reads.is_set():
                continue
            try:
                told = os.read(self._master, READ_BYTES)
            except OSError:  # program and leader have ended
                self._is_idle.set()
                return
            with self._changed:
                self.bytes_read += len(told)
                self._written += told
                del self._written[:-KEPT_BYTES]
                # pyte takes the p of "is this mode known?" for a letter
                self._stream.feed(re.sub(rb"\x1b\[\?[0-9]+\$p", b"", told))
                self._changed.notify_all()


def _lead(
    program: Sequence[str], environment: Mapping[str, str], folder: Path, slave: int, tells: int
) -> None:
    """What a shell would do: start it, tell its process id and its end, stay. Never returns."""
    try:
        os.login_tty(slave)
        os.dup2(tells, 3)
        os.closerange(4, 1024)
        pid = os.fork()
        if pid == 0:
            for number in RESET:
                signal.signal(number, signal.SIG_DFL)
            os.close(3)
            os.chdir(folder)
            os.execvpe(program[0], list(program), dict(environment))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
        os.write(3, f"{pid}\n".encode())
        status = os.waitpid(pid, 0)[1]
        os.write(3, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        signal.pause()
    finally:
        os._exit(127)


def _packed(size: tuple[int, int]) -> bytes:
    return struct.pack("HHHH", size[1], size[0], 0, 0)
