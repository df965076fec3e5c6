"""Messages between ranks of a torch group, without sockets: matching, parts, refusals."""

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.distributed import correspondence
from p2p.distributed.correspondence import Correspondence, Send
from p2p.distributed.errors import GroupError
from p2p.distributed.letters import Kind, Letter, unpack
from p2p.distributed.matching import Matching, Offer, Receive
from p2p.distributed.presence import Presence, Progress
from p2p.distributed.watch import Break, Note, Watch

GROUP = b"8 bytes!"


class Outcome:
    """What a send or receive has come to."""

    def __init__(self, length: int = 0) -> None:
        self.memory = bytearray(length)
        self.ends: list[tuple[str, int]] = []

    def __call__(self, error: Exception | None, rank: int) -> None:
        self.ends.append(("" if error is None else str(error), rank))


def deliver(ranks: list[Correspondence], rng: random.Random, most: int = 10**6) -> None:
    """Carry letters between the ranks, each link in order, the links in any order."""
    for _ in range(most):
        links = [(mine, to) for mine in ranks for to, queue in mine.outbox.items() if queue]
        if not links:
            return
        mine, to = rng.choice(links)
        out = mine.outbox[to].popleft()
        ranks[to].on_letter(out.letter, bytes(out.payload))
        if out.gone is not None:
            out.gone()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correspondence, "SHORT_BYTES_MAX", 4)
    monkeypatch.setattr(correspondence, "PART_BYTES", 3)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 25))
def test_every_message_arrives_once_in_order_within_sender_and_tag(
    seed: int, size: int, messages: int
) -> None:
    rng = random.Random(seed)
    ranks = [Correspondence(GROUP, rank) for rank in range(size)]
    todo: list[tuple[str, int, int, int, bytes]] = []
    for number in range(messages):
        sender, to, tag = rng.randrange(size), rng.randrange(size), rng.randrange(3)
        data = bytes([number]) * rng.choice([1, 4, 5, 9, 10])
        todo += [("send", sender, to, tag, data), ("receive", sender, to, tag, data)]
    # What is sent and received keeps its order; sends and receives come in any.
    sends = deque(item for item in todo if item[0] == "send")
    receives = deque(item for item in todo if item[0] == "receive")
    got: list[tuple[Outcome, bytes, int]] = []
    sent: list[Outcome] = []
    while sends or receives:
        queue = rng.choice([q for q in (sends, receives) if q])
        kind, sender, to, tag, data = queue.popleft()
        if kind == "send":
            sent.append(Outcome())
            ranks[sender].send(to, tag, memoryview(data), sent[-1])
        else:
            outcome = Outcome(len(data))
            got.append((outcome, data, sender))
            ranks[to].receive(Receive(sender, tag, memoryview(outcome.memory), outcome))
        deliver(ranks, rng, rng.randrange(4))
    deliver(ranks, rng)
    assert all(outcome.ends == [("", sender)] for outcome, _, sender in got)
    assert all(bytes(outcome.memory) == data for outcome, data, _ in got)
    assert all(len(outcome.ends) == 1 and outcome.ends[0][0] == "" for outcome in sent)


def test_a_receive_from_any_takes_the_oldest_offer_of_its_tag() -> None:
    matching = Matching()
    for sender, tag in [(2, 7), (1, 5), (0, 5)]:
        assert matching.offer(Offer(sender, tag, 0, 0, b"")) is None
    taken = matching.post(Receive(None, 5, memoryview(bytearray()), Outcome()))
    assert taken is not None
    assert taken.sender == 1


def test_a_message_of_another_length_fails_on_both_sides_if_long() -> None:
    a, b = ranks = [Correspondence(GROUP, 0), Correspondence(GROUP, 1)]
    sent, got = Outcome(), Outcome(5)
    a.send(1, 0, memoryview(bytes(9)), sent)
    b.receive(Receive(0, 0, memoryview(got.memory), got))
    deliver(ranks, random.Random(1))
    assert got.ends == [("rank 0 sends 9 bytes, 5 fit", 0)]
    assert sent.ends == [("rank 1 has room for 5 bytes, not for 9", 1)]


def test_a_send_given_up_midway_sends_nothing_more() -> None:
    a, b = ranks = [Correspondence(GROUP, 0), Correspondence(GROUP, 1)]
    sent, got = Outcome(), Outcome(9)
    sending = a.send(1, 0, memoryview(bytes(9)), sent)
    b.receive(Receive(0, 0, memoryview(got.memory), got))
    deliver(ranks, random.Random(1), most=3)  # the offer, the taking, the first part
    assert isinstance(sending, Send)
    a.cancel(sending, GroupError("too late"))
    assert [out.letter.kind for out in a.outbox[1]] == [Kind.WITHDRAWN]
    deliver(ranks, random.Random(1))
    assert (sent.ends, got.ends) == ([("too late", 1)], [("rank 0 gave up sending this", -1)])


def test_whoever_waits_for_a_lost_rank_alone_is_told() -> None:
    mail = Correspondence(GROUP, 0)
    outcomes = [Outcome(), Outcome(1), Outcome(1), Outcome(1)]
    mail.send(1, 0, memoryview(bytes(9)), outcomes[0])
    for source, outcome in zip((1, 2, None), outcomes[1:], strict=True):
        mail.receive(Receive(source, 0, memoryview(outcome.memory), outcome))
    mail.lose(1, GroupError("gone"))
    assert [len(outcome.ends) for outcome in outcomes] == [1, 1, 0, 0]
    mail.end(GroupError("over"))
    assert [outcome.ends[0][0] for outcome in outcomes] == ["gone", "gone", "over", "over"]


def test_bytes_of_others_are_no_letters() -> None:
    letter = Letter(GROUP, Kind.WHOLE, 2, -5, 3, 4)
    assert unpack(letter.pack(), GROUP, 3) == letter
    assert unpack(letter.pack(), b"another!", 3) is None
    assert unpack(letter.pack(), GROUP, 2) is None  # no such rank
    assert unpack(letter.pack()[:-1], GROUP, 3) is None
    assert unpack(letter.pack().replace(bytes([Kind.WHOLE]), b"\x63", 1), GROUP, 3) is None


def test_the_sentence_names_who_is_missing() -> None:
    presence = Presence(0, 5)
    presence.told = {1: Progress(6, 6, "all_reduce"), 2: Progress(7, 6, "barrier")}
    presence.left = {3: 6}
    said = presence.missing(7, "all_reduce")
    assert said == (
        "rank 3 left the group before; rank 1 is missing; rank 2 called barrier instead; "
        "rank 4 does not answer"
    )
    presence.left = {3: 7}
    assert presence.departed(7) == ""


def test_a_late_collective_asks_first_and_then_says_who_is_missing() -> None:
    watch = Watch(0, 3)
    watch.begin(1, "barrier", 5.0, now=100.0)
    assert list(watch.look(104.9, broken=False)) == []
    assert list(watch.look(105.0, broken=False)) == [Note(1, Kind.ASK), Note(2, Kind.ASK)]
    watch.presence.told[1] = Progress(1, 0, "barrier")
    assert list(watch.look(105.1, broken=False)) == []
    reason = "barrier did not end within its timeout of 5 s: rank 2 does not answer"
    assert watch.deadlines(105.1, broken=False) == pytest.approx([105.2, 105.5])
    assert list(watch.look(105.5, broken=False)) == [Break(reason, tell=True)]
    assert watch.deadlines(105.6, broken=True) == []  # nobody looks at what is over


def test_an_ended_connection_counts_only_if_no_farewell_follows() -> None:
    watch = Watch(0, 3)
    watch.suspect({1, 2}, now=10.0)
    watch.leaves(1, 0)
    assert list(watch.look(10.2, broken=False)) == [Note(1, Kind.MAY_LEAVE)]
    gone = "rank 2 ended without leaving the group"
    assert list(watch.look(10.4, broken=False)) == [Break(gone, tell=False)]
    with pytest.raises(GroupError, match=gone):
        watch.begin(1, "barrier", 5.0, now=11.0)


def test_a_rank_may_leave_when_the_others_have_ended_what_it_has() -> None:
    watch = Watch(0, 2)
    watch.begin(1, "broadcast", 5.0, now=0.0)
    watch.leaves(1, 1)
    assert list(watch.look(0.1, broken=False)) == []
    assert watch.finish(1)
    assert list(watch.look(0.2, broken=False)) == [Note(1, Kind.MAY_LEAVE)]
    assert watch.free  # nobody else is left
