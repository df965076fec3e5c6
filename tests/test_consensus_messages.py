"""The wire form: what is valid survives, everything else is refused with MalformedMessage."""

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.changes import (
    ConfChange,
    ConfChangeType,
    ConfState,
    SnapshotMeta,
    Step,
    Transition,
)
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.wire import MalformedMessage

uints = st.integers(0, 2**63 - 1)
ids = st.text(min_size=1, max_size=20)


peers = st.lists(ids, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
configurations = st.builds(ConfState, peers, peers, peers, peers, st.booleans())


def snapshots(term: int) -> st.SearchStrategy[SnapshotMeta]:
    return st.builds(SnapshotMeta, st.integers(1, 1 << 40), st.integers(1, term), configurations)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message a correct peer could send."""
    kind = draw(st.sampled_from(MessageType))
    term = draw(st.integers(1, 2**63 - 1))
    index = draw(st.integers(0, 2**62))
    log_term = draw(st.integers(1, term)) if index else 0
    terms = sorted(draw(st.lists(st.integers(max(1, log_term), term), max_size=4)))
    entries = tuple(
        Entry(index + n, t, draw(st.sampled_from(EntryType)), draw(st.binary(max_size=9)))
        for n, t in enumerate(terms, 1)
    )
    return Message(
        type=kind,
        to=draw(ids),
        sender=draw(ids),
        term=term,
        log_term=log_term,
        index=index,
        commit=draw(uints),
        reject=draw(st.booleans()),
        reject_hint=draw(uints),
        context=draw(st.binary(max_size=9)),
        entries=entries if kind is MessageType.APP else (),
        snapshot=draw(snapshots(term)) if kind is MessageType.SNAP else None,
    )


@given(messages())
def test_a_message_survives_the_wire(message: Message) -> None:
    assert Message.from_wire(msgpack.unpackb(msgpack.packb(message.to_wire()))) == message


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(messages(), st.integers(0, 11), json_like)
def test_any_value_in_any_field_is_taken_or_refused(
    message: Message, place: int, value: object
) -> None:
    wire = message.to_wire()
    wire[place] = value
    try:
        taken = Message.from_wire(wire)
    except MalformedMessage:
        return
    assert taken.to_wire() == wire


@given(json_like)
def test_rubbish_is_refused(value: object) -> None:
    with pytest.raises(MalformedMessage):
        Message.from_wire(value)


GOOD = Message(MessageType.APP, "a", "b", 3, 2, 5, entries=(Entry(6, 2), Entry(7, 3)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "MsgHup"),  # local prompts are no messages
        (0, "MsgProp"),
        (0, "MsgVoteResp"),  # must not carry entries
        (1, ""),
        (2, None),
        (3, 0),
        (3, True),
        (3, 2**63),
        (3, 2),  # an entry of a later term than the message
        (4, 0),  # entry 5 of no term
        (4, 3),  # a term that falls
        (5, -1),
        (7, 1),
        (10, [[3, 0, b""], [2, 0, b""]]),
        (10, [[3, 2, b""]]),
        (10, [[3, 0, "text"]]),
        (10, [[3, 0]]),
        (11, [1, 1, [["a"], [], [], [], False]]),  # a snapshot is for MsgSnap
    ],
)
def test_what_no_correct_peer_sends_is_refused(place: int, value: object) -> None:
    wire = GOOD.to_wire()
    assert Message.from_wire(wire) == GOOD
    wire[place] = value
    with pytest.raises(MalformedMessage):
        Message.from_wire(wire)


SNAP = Message(
    MessageType.SNAP, "a", "b", 3, snapshot=SnapshotMeta(5, 2, ConfState(("a", "b"), ("c",)))
)


@pytest.mark.parametrize(
    "value",
    [
        None,  # MsgSnap without a snapshot
        [0, 0, [["a"], [], [], [], False]],
        [5, 4, [["a"], [], [], [], False]],  # of a later term than the message
        [5, 0, [["a"], [], [], [], False]],
        [5, 2, [["b", "a"], [], [], [], False]],  # not sorted
        [5, 2, [["a", "a"], [], [], [], False]],
        [5, 2, [["a"], [], [], [], 0]],
        [5, 2, [["a"], [], [], []]],
        [5, 2, [[""], [], [], [], False]],
    ],
)
def test_what_no_correct_snapshot_is_is_refused(value: object) -> None:
    wire = SNAP.to_wire()
    assert Message.from_wire(wire) == SNAP
    wire[11] = value
    with pytest.raises(MalformedMessage):
        Message.from_wire(wire)


steps = st.builds(Step, st.sampled_from(ConfChangeType), ids)


@given(st.lists(steps, max_size=3), st.sampled_from(Transition), st.binary(max_size=20))
def test_a_configuration_change_survives(
    steps: list[Step], transition: Transition, context: bytes
) -> None:
    change = ConfChange(tuple(steps), transition, context)
    assert ConfChange.decode(change.encode()) == change


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xc1", msgpack.packb(5), msgpack.packb([9, [], b""])),
        *(msgpack.packb([0, [[0, ""]], b""]), msgpack.packb([0, [[9, "a"]], b""])),
    ],
)
def test_a_malformed_configuration_change_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        ConfChange.decode(data)


@given(st.binary(max_size=40))
def test_random_bytes_are_no_configuration_change_or_a_whole_one(data: bytes) -> None:
    with suppress(MalformedMessage):
        assert ConfChange.decode(data).context is not None


def test_hard_state_survives() -> None:
    for state in (HardState(), HardState(3, "a", 2)):
        assert HardState.from_wire(state.to_wire()) == state
    with pytest.raises(MalformedMessage):
        HardState.from_wire([1, "", 0])
