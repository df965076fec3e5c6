"""Text for fixed-width screens: cleaning what peers sent, fitting it to cells, short numbers.

Names, reasons and errors come from other machines and from users' tasks. They are shown, never
interpreted: no terminal escape and no markup survives `clean`, and no widget parses markup.
"""

import time
import unicodedata
from typing import Literal

from rich.cells import cell_len, set_cell_size

Align = Literal["left", "right"]
SHOWN_CHARACTERS_MAX = 500


def clean(text: str) -> str:
    """One printable line: control, format and surrogate characters become '·'."""
    return _printable(text[:SHOWN_CHARACTERS_MAX].replace("\n", " ").replace("\t", " "))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join("·" if unicodedata.category(c)[0] == "C" else c for c in text)


def width_of(text: str) -> int:
    return cell_len(text)


def fit(text: str, width: int, align: Align = "left", cut: str = "…") -> str:
    """`text` in exactly `width` cells, padded or cut (with `cut` as the last cell)."""
    if width <= 0:
        return ""
    size = cell_len(text)
    if size > width:
        return set_cell_size(set_cell_size(text, width - 1) + cut, width)
    padding = " " * (width - size)
    return padding + text if align == "right" else text + padding


def wrap(text: str, width: int) -> list[str]:
    """Greedy word wrap by cells; a word longer than the line is cut into lines."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        while cell_len(word) > width:
            if line:
                lines.append(line)
                line = ""
            head = set_cell_size(word, width).rstrip()
            lines.append(head)
            word = word[len(head) :]
        joined = f"{line} {word}" if line else word
        if cell_len(joined) > width:
            lines.append(line)
            line = word
        else:
            line = joined
    return [*lines, line] if line else lines


def fold(text: str, width: int) -> list[str]:
    """Printable lines of at most `width` cells: lines and spaces stay, long lines are broken
    after a space where there is one in their second half.
    """
    lines = []
    for whole in text.split("\n"):
        line, begin = _printable(whole.expandtabs(4)), 0
        while (end := _end_of_fitting(line, begin, width)) < len(line):
            at = line.rfind(" ", (begin + end) // 2, end) + 1 or end
            lines.append(line[begin:at])
            begin = at
        lines.append(line[begin:])
    return lines


def _end_of_fitting(line: str, begin: int, width: int) -> int:
    """Behind the characters from `begin` on that have room, at least one."""
    used = 0
    for at in range(begin, len(line)):
        used += cell_len(line[at])
        if used > width:
            return max(begin + 1, at)
    return len(line)


def memory(size: int) -> str:
    """Bytes in four characters or so: 0, 512K, 36M, 1.4G."""
    if size <= 0:
        return "–"
    value = float(size)
    for unit in ("B", "K", "M", "G", "T"):
        if value < 1000 or unit == "T":
            digits = 1 if value < 10 and unit not in "BK" else 0
            return f"{value:.{digits}f}{unit}"
        value /= 1024
    raise AssertionError("unreachable")


def count(value: float | None) -> str:
    """1234567 → 1,234,567; None → –."""
    return "–" if value is None else f"{value:,.0f}"


def plural(number: int, word: str) -> str:
    """1 peer, 2 peers."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def short_count(value: float) -> str:
    """At most five characters: 950, 5.2k, 1.3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:.0f}{unit}" if abs(scaled) >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def rate(value: float | None) -> str:
    """A rate per second; nothing running shows as –."""
    if value is None or value <= 0:
        return "–"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def number(value: float | None) -> str:
    """A loss: four significant digits, however large or small."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.5g}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def seconds(value: float | None) -> str:
    """A duration: 7.1 ms, 0.25 s, 12 s, 3 min, 2 h."""
    if value is None:
        return "–"
    if 0 < value < 0.1:
        return f"{1000 * value:.1f} ms" if value < 0.01 else f"{1000 * value:.0f} ms"
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def clock(at_s: float) -> str:
    """Local wall-clock time of a Unix time."""
    return time.strftime("%H:%M:%S", time.localtime(at_s))


def short_hash(state_hash: str | None, characters: int = 12) -> str:
    return "–" if not state_hash else state_hash.removeprefix("sha256:")[:characters]


def moment(at_s: float) -> str:
    """Local date and time of a Unix time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def ago(at_s: float | None, now_s: float) -> str:
    return "–" if at_s is None else f"{seconds(max(0.0, now_s - at_s))} ago"
