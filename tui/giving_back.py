"""The terminal is given back as it was, also by a screen whose terminal reads no more.

A terminal that is suspended, or a line that hangs, takes nothing: Textual's writer waits for it,
and the end of the screen for the writer. So its end has a limit; then what was not read is dropped,
and what leaves the screen and the mouse is written past everybody.
"""

import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
END_WITHIN_S, LEAVE_WITHIN_S = 1.5, 3.0
WAKE = signal.SIGURG  # which nobody else uses here; ends a system call that waits
# CAN ends what was cut off; then: wrap, no mouse, no paste marks, own keys, own screen, cursor.
LEAVE = (
    b"\x18\x1b[?2026l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?2004l\x1b[?2048l"
    b"\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l\x1b[0m\r\n"
)


def takes_more(file: int) -> bool:
    """Whether a terminal, or the pipe to a browser, has read enough to be told more."""
    try:
        return bool(select.select([], [file], [], 0)[1])
    except (OSError, ValueError):
        return True  # whoever writes will find out


class GivenBack:
    """A context manager around a screen, in the main thread: after `expect_end` the process has
    END_WITHIN_S to end by itself.
    """

    def __enter__(self) -> Self:
        self._input = sys.__stdin__.fileno() if sys.__stdin__ else 0
        self._output = sys.__stderr__.fileno() if sys.__stderr__ else 2
        self._before = termios.tcgetattr(self._input) if os.isatty(self._input) else None
        self._timer: threading.Timer | None = None
        self._woken_before = signal.signal(WAKE, lambda number, frame: None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()  # where it is at work, it ends the process when it has done
        signal.signal(WAKE, self._woken_before)

    def expect_end(self, code: int) -> None:
        if self._timer is None:
            self._timer = threading.Timer(END_WITHIN_S, self._end, (code,))
            self._timer.daemon = True
            self._timer.start()

    def _end(self, code: int) -> None:
        try:
            if self._before is not None:
                termios.tcsetattr(self._input, termios.TCSANOW, self._before)
                leave(self._output)
        finally:
            os._exit(code)


def leave(terminal: int) -> None:
    """Drop what the terminal was told and has not read, also what Textual's thread is writing to
    it now; then tell it LEAVE. Raises OSError. Afterwards this file leads nowhere.
    """
    # A file of our own, for not to wait is a property of what a shell has open as well.
    own = os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)  # for all later writes of others
    left, deadline_s = LEAVE, time.monotonic() + LEAVE_WITHIN_S
    while left and time.monotonic() < deadline_s:
        if left == LEAVE:
            termios.tcflush(own, termios.TCOFLUSH)
        for thread in threading.enumerate():  # a write that waits does not see that there is room
            if thread is not threading.current_thread() and thread.ident is not None:
                signal.pthread_kill(thread.ident, WAKE)
        try:
            left = left[os.write(own, left) :]
        except BlockingIOError:  # the other's turn is not over yet
            time.sleep(0.001)


class Signalled:
    """Signals that end a screen. Not by the loop alone, which a terminal may keep waiting."""

    def __init__(self, end: Callable[[int], None]) -> None:
        self._end = end
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """From the main thread; elsewhere (in a test) nothing is listened to."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._end(SIGNALS[signal.Signals(number)])
