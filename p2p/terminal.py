"""Lines for whoever watches the peer's terminal, written by a thread of their own.

A terminal that is stopped (Ctrl-S) or a pipe that nobody reads blocks the writer, and a peer that
waits for it is soon taken for dead. So the peer only hands over its lines; what finds no room is
lost, and so is all after a reader that has gone.
"""

import contextlib
import io
import os
import queue
import sys
import threading

LINES_WAITING_MAX = 1_000
CLOSE_WITHIN_S = 0.2


class Terminal:
    """Writes to the standard error of this process, or to the given descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """A moment for the last lines; whoever does not read them is not waited for."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_WITHIN_S)

    def _write(self) -> None:
        # Not through sys.stderr: its lock would be held here when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            file = sys.stderr.fileno() if self._descriptor is None else self._descriptor
            while (line := self._lines.get()) is not None:
                data = memoryview(f"{line}\n".encode(errors="replace"))
                while data:
                    data = data[os.write(file, data) :]


def show_what_the_terminal_can() -> None:
    """A name or a glyph that the terminal's encoding lacks becomes "?", never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
