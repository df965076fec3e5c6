"""The contract between host and core: what a Ready holds, in which order, and what misuse says."""

from random import Random
from typing import Any

import pytest

from consensus.changes import ConfChange, ConfChangeType, ConfState, SnapshotMeta
from consensus.config import RaftConfig
from consensus.errors import RaftError
from consensus.messages import Entry, HardState, Message, MessageType
from consensus.node import RawNode, Role, SoftState, bootstrap
from consensus.storage import MemoryStorage
from tests.raft_cluster import cluster, lone


def node(storage: MemoryStorage | None = None, **options: Any) -> RawNode:
    settings: dict[str, Any] = {"id": "a", "election_ticks": 10, "heartbeat_ticks": 2} | options
    return RawNode(RaftConfig(**settings), storage or MemoryStorage(), Random(0))


def test_nothing_to_do_is_said_so() -> None:
    made = node()
    assert not made.has_ready()
    made.tick()
    assert not made.has_ready()


def test_a_ready_says_only_what_changed() -> None:
    made = lone(voters="a", term=1).node
    made.campaign()
    ready = made.ready()
    assert ready.soft_state == SoftState(None, Role.CANDIDATE)
    assert ready.hard_state == HardState(2, "a", 0)
    assert (ready.entries, ready.committed, ready.must_sync) == ((), (), True)
    made.advance(ready)
    ready = made.ready()
    assert ready.soft_state == SoftState("a", Role.LEADER)
    assert (ready.hard_state, ready.entries, ready.must_sync) == (None, (Entry(1, 2),), True)


def test_a_new_commit_index_alone_needs_no_sync() -> None:
    net = cluster()
    net.elect("a")
    net["b"].node.step(Message(MessageType.APP, "b", "a", 1, 1, 1, 1, entries=(Entry(2, 1),)))
    net["b"].drain()
    net["b"].node.step(Message(MessageType.HEARTBEAT, "b", "a", 1, commit=2))
    ready = net["b"].node.ready()
    assert ready.hard_state == HardState(1, "a", 2)
    assert (ready.must_sync, [e.index for e in ready.committed]) == (False, [2])


def test_work_between_ready_and_advance_is_in_the_next_ready() -> None:
    peer = lone(term=1)
    peer.node.step(Message(MessageType.APP, "a", "b", 1, entries=(Entry(1, 1),)))
    ready = peer.node.ready()
    peer.node.step(Message(MessageType.APP, "a", "b", 1, 1, 1, entries=(Entry(2, 1),)))
    assert not peer.node.has_ready()
    assert [m.index for m in peer.finish(ready)] == [1]
    following = peer.node.ready()
    assert [e.index for e in following.entries] == [2]
    assert [m.index for m in following.messages_after] == [2]


def test_misuse_says_what_is_wrong() -> None:
    made = lone(voters="a", term=1).node
    made.campaign()
    ready = made.ready()
    with pytest.raises(RaftError, match="before advance"):
        made.ready()
    made.advance(ready)
    with pytest.raises(RaftError, match="returned last"):
        made.advance(ready)


def test_a_committed_change_that_was_not_applied_stops_advance() -> None:
    made = node(MemoryStorage(*bootstrap("a")))
    ready = made.ready()
    with pytest.raises(RaftError, match="apply_conf_change"):
        made.advance(ready)
    made.apply_conf_change(ConfChange.decode(ready.committed[0].data))
    made.advance(ready)
    assert made.status().voters == ("a",)


def test_after_a_restart_committed_entries_are_handed_out_from_applied() -> None:
    entries = [Entry(i, 1) for i in range(1, 6)]
    conf = ConfState(("a", "b", "c"))
    for applied in (0, 2, 4):
        snapshot = SnapshotMeta(applied, min(applied, 1), conf)
        made = node(MemoryStorage(HardState(1, None, 4), entries, snapshot))
        ready = made.ready()
        assert [e.index for e in ready.committed] == list(range(applied + 1, 5))
        assert (ready.hard_state, ready.entries, ready.must_sync) == (None, (), False)
        made.advance(ready)
        assert made.status().applied == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"id": ""}, "needs an id"),
        ({"election_ticks": 2}, "must be greater"),
        ({"heartbeat_ticks": 0}, "positive"),
        ({"max_inflight": 0}, "max_inflight"),
        ({"max_apply_bytes": 0}, "max_apply_bytes"),
        ({"learner_heartbeat_ticks": 10}, "learner_heartbeat_ticks"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        node(**options)


def test_a_disk_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="lost"):
        node(MemoryStorage(HardState(1, None, 3), [Entry(1, 1)]))
    with pytest.raises(ValueError, match="later term"):
        node(MemoryStorage(HardState(1, None, 0), [Entry(1, 2)]))


def test_equal_seeds_give_equal_runs() -> None:
    def run() -> list[Message]:
        net = cluster("abcde")
        net.tick(60)
        net.propose(net.leaders()[0], b"x")
        return net.sent

    assert run() == run()


def test_an_impossible_change_changes_nothing() -> None:
    made = lone(voters="a").node
    assert made.apply_conf_change(ConfChange.one(ConfChangeType.REMOVE, "a")) == ConfState(("a",))
