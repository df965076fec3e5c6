"""The text of one answer as its ids come. Pure."""

from collections.abc import Sequence

from p2p.serving.text import Stops, Text


class Answer:
    """`sent` = the ids that the client has: their text is not shown again."""

    def __init__(self, text: Text, stops: Sequence[str], sent: Sequence[int]) -> None:
        self._text, self._stops = text, Stops(stops)
        for token in sent:
            self.push(token)

    @property
    def is_stopped(self) -> bool:
        return self._stops.is_hit

    def push(self, token: int) -> str:
        return self._stops.push(self._text.push(token))

    def rest(self) -> str:
        """What was held back; nothing after a stop text."""
        last = self._stops.push(self._text.rest())
        return last + ("" if self.is_stopped else self._stops.rest())
