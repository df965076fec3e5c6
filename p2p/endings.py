"""How a process ended, in words."""

import signal
from pathlib import Path

LAST_WORDS_BYTES = 4096


def in_words(code: int | None, number: int | None) -> str:
    """By its exit code, or by the signal that ended it."""
    if number is None:
        return f"it ended with code {code}"
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"it was killed by signal {number}{hint}"


def last_line(log: Path) -> str:
    """What was printed last."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
        said = file.read().decode(errors="replace").strip().splitlines()
    return said[-1] if said else "it said nothing"
