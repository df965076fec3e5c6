"""News of a commit waits a moment for the next append; nothing else waits."""

from consensus.messages import Entry, Message, MessageType
from p2p.clock import ManualClock
from p2p.wire.outbox import BATCH_BYTES_MAX, NEWS_S, Outbox

Sent = list[tuple[str, list[Message]]]


def outbox() -> tuple[Outbox, Sent, ManualClock]:
    sent: Sent = []
    clock = ManualClock()
    return Outbox(lambda peer, batch: sent.append((peer, batch)), clock.call_later), sent, clock


def post(box: Outbox, messages: list[Message]) -> None:
    for message in messages:
        box.add(message)
    box.flush()


def news(to: str, commit: int) -> Message:
    return Message(MessageType.APP, to, "a", 2, log_term=2, index=commit, commit=commit)


def append(to: str, index: int, size: int = 1) -> Message:
    entry = Entry(index, 2, data=b"x" * size)
    return Message(MessageType.APP, to, "a", 2, 2, index - 1, index - 1, entries=(entry,))


def heartbeat(to: str) -> Message:
    return Message(MessageType.HEARTBEAT, to, "a", 2, commit=1)


def test_news_alone_leaves_a_moment_later_and_only_the_newest() -> None:
    box, sent, clock = outbox()
    post(box, [news("b", 5), news("c", 5)])
    post(box, [news("b", 6)])
    assert sent == []
    clock.advance(NEWS_S)
    assert sent == [("b", [news("b", 6)]), ("c", [news("c", 5)])]
    clock.advance(1.0)
    assert len(sent) == 2


def test_an_append_overtakes_it() -> None:
    box, sent, clock = outbox()
    post(box, [news("b", 5)])
    post(box, [append("b", 6)])
    clock.advance(1.0)
    assert sent == [("b", [append("b", 6)])]


def test_whatever_goes_there_takes_it_along() -> None:
    """A confirmed read, for one, waits for the commit that it names."""
    box, sent, clock = outbox()
    post(box, [news("b", 5)])
    post(box, [heartbeat("b"), heartbeat("c")])
    clock.advance(1.0)
    assert sent == [("b", [news("b", 5), heartbeat("b")]), ("c", [heartbeat("c")])]


def test_it_hurries_where_somebody_waits() -> None:
    box, sent, clock = outbox()
    post(box, [news("b", 5), news("c", 5)])
    box.hurry("b")
    box.hurry("nobody")
    assert sent == [("b", [news("b", 5)])]
    clock.advance(1.0)
    assert sent == [("b", [news("b", 5)]), ("c", [news("c", 5)])]


def test_an_envelope_is_not_filled_beyond_its_size() -> None:
    box, sent, _ = outbox()
    large = [append("b", index, BATCH_BYTES_MAX // 2 + 1) for index in (6, 7)]
    post(box, [heartbeat("b"), *large])
    assert sent == [("b", [heartbeat("b"), large[0]]), ("b", [large[1]])]
