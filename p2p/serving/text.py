"""From ids to text that can be shown: whole characters, and nothing of what stops an answer. Pure.

What was shown after some ids is a function of these ids, so whoever goes on with an answer pushes
the ids that were sent before and shows what comes then.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

UNDECODED_MAX = 8  # ids that may wait for the rest of a character; the longest takes four bytes


class Text(Protocol):
    """One answer's."""

    def push(self, token: int) -> str:
        """What can be shown since: whole characters only, sometimes none."""

    def rest(self) -> str:
        """What is left when no more ids come: half a character becomes U+FFFD."""


class BytesText:
    """For tokens that are pieces of UTF-8."""

    def __init__(self, decode: Callable[[Sequence[int]], bytes]) -> None:
        self._decode = decode
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._characters.decode(self._decode([token]))

    def rest(self) -> str:
        return self._characters.decode(b"", final=True)


class WordsText:
    """For tokenizers that only tell the text of several ids together.

    The last ids are decoded with and without the new one: what is more is the new one's text. A
    text that ends in U+FFFD has half a character at its end and waits for the next id.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._shown: list[int] = []  # a few ids before, which the text of the next may depend on
        self._new: list[int] = []

    def push(self, token: int) -> str:
        self._new.append(token)
        more = self._more()
        if more.endswith("�") and len(self._new) < UNDECODED_MAX:
            return ""
        return self._show(more)

    def rest(self) -> str:
        return self._show(self._more()) if self._new else ""

    def _more(self) -> str:
        return self._decode([*self._shown, *self._new])[len(self._decode(self._shown)) :]

    def _show(self, more: str) -> str:
        self._shown, self._new = self._new, []
        return more


class Stops:
    """Holds back what may become one of the stop texts, and what comes after one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_hit = False

    def push(self, text: str) -> str:
        """What can be shown since; "" from the first stop text on."""
        if self.is_hit or not self._stops:
            return "" if self.is_hit else text
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_hit = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        cut = len(self._held) - max(_begun(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def rest(self) -> str:
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text may be the beginning of `stop`."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
