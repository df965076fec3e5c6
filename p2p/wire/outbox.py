"""Raft's messages on their way out: one envelope per peer; news of commits is held back.

An append without entries says only how far the commit is, and the next append says it as well. So
such news waits a moment: while commands come in it rides along with the next, which halves the
messages and the awakenings of everybody. Raft may lose any message, so to drop one that a
later append overtakes is nothing new to it.
"""

from collections.abc import Callable, Iterator

from consensus.messages import Message, MessageType

BATCH_BYTES_MAX = 4 * 1024 * 1024
NEWS_S = 0.002


class Outbox:
    """`send(peer, messages)` is the way out."""

    def __init__(
        self,
        send: Callable[[str, list[Message]], None],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._send = send
        self._call_later = call_later
        self._added: dict[str, list[Message]] = {}  # by peer
        self._news: dict[str, Message] = {}  # by peer

    def add(self, message: Message) -> None:
        """It leaves with the next flush(), or a moment later."""
        if message.type is MessageType.APP and not message.entries:
            self._hold_back(message)
        else:
            self._added.setdefault(message.to, []).append(message)

    def flush(self) -> None:
        """Send what was added."""
        added, self._added = self._added, {}
        for peer, waiting in added.items():
            news = self._news.pop(peer, None)
            if news is not None and all(m.type is not MessageType.APP for m in waiting):
                waiting.insert(0, news)
            for batch in _batches(waiting):
                self._send(peer, batch)

    def hurry(self, peer: str) -> None:
        """Somebody waits there for what was committed: do not hold it back."""
        news = self._news.pop(peer, None)
        if news is not None:
            self._send(peer, [news])

    def _hold_back(self, message: Message) -> None:
        if not self._news:
            self._call_later(NEWS_S, self._send_news)
        self._news[message.to] = message

    def _send_news(self) -> None:
        for peer in list(self._news):
            self.hurry(peer)


def _batches(messages: list[Message]) -> Iterator[list[Message]]:
    """In order, cut so that each batch fits into one envelope."""
    if len(messages) == 1:
        yield messages
        return
    batch: list[Message] = []
    size = 0
    for message in messages:
        own = sum(len(entry.data) for entry in message.entries)
        if batch and size + own > BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += own
    if batch:
        yield batch
