"""Whatever passes the wire form may reach a core in any role: it never breaks or goes back."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import SafetyViolation
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import Role
from consensus.wire import MalformedMessage
from tests.raft_cluster import Peer, lone

small = st.integers(0, 7)
PRE_VOTES = (MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP)  # they speak of a term to come


@st.composite
def messages(draw: st.DrawFn) -> Message | None:
    """Messages with numbers near those in use; None where even the wire form refuses."""
    index = draw(small)
    terms = sorted(draw(st.lists(st.integers(1, 7), max_size=3)))
    entries = tuple(Entry(index + n, t, EntryType.NORMAL, b"x") for n, t in enumerate(terms, 1))
    kind = draw(st.sampled_from(MessageType))
    message = Message(
        type=kind,
        to="a",
        sender=draw(st.sampled_from(["b", "c", "x"])),
        term=draw(st.integers(0, 7)),
        log_term=draw(small),
        index=index,
        commit=draw(small),
        reject=draw(st.booleans()),
        reject_hint=draw(small),
        context=draw(st.sampled_from([b"", b"b", b"\xff", b"CampaignTransfer"])),
        entries=entries if kind is MessageType.APP else (),
    )
    try:
        return Message.from_wire(message.to_wire())
    except MalformedMessage:
        return None


def in_role(role: Role) -> Peer:
    """A peer of {a, b, c} with the log 1 1 2, of which 2 entries are committed."""
    peer = lone(terms=[1, 1, 2], term=2, commit=2, pre_vote=role is Role.PRE_CANDIDATE)
    if role is not Role.FOLLOWER:
        peer.node.campaign()
        peer.drain()
    if role is Role.LEADER:
        peer.step(MessageType.VOTE_RESP, "b", 3)
    assert peer.node.status().role is role
    return peer


@pytest.mark.parametrize("role", Role)
@settings(deadline=None, max_examples=60)
@given(received=st.lists(messages(), max_size=8), ticks=st.integers(0, 6))
def test_nothing_that_arrives_breaks_a_peer(
    role: Role, received: list[Message | None], ticks: int
) -> None:
    peer = in_role(role)
    for message in filter(None, received):
        before, disk = peer.node.status(), peer.storage.hard_state
        with suppress(SafetyViolation):  # the one thing that may stop it
            peer.node.step(message)
        for sent in peer.drain():
            assert Message.from_wire(sent.to_wire()) == sent
            assert sent.type in PRE_VOTES or sent.term <= peer.storage.hard_state.term
        for _ in range(ticks):
            peer.node.tick()
        after = peer.node.status()
        assert after.term >= before.term
        assert before.commit <= after.commit <= after.last_index
        assert after.applied >= before.applied
        if peer.storage.hard_state.term == disk.term and disk.vote is not None:
            assert peer.storage.hard_state.vote == disk.vote
        assert peer.terms[:2] == [1, 1]
