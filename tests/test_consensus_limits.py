"""Everything is bounded: what is under way, what waits for a quorum, what is applied at once."""

from typing import Any

import pytest

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import Busy, ProposalDropped
from consensus.inflights import Inflights
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.quota import Quota
from consensus.storage import MemoryStorage
from tests.raft_cluster import HEARTBEAT, Cluster, Peer, base, cluster, lone, of_type

APP, APP_RESP, BEAT = MessageType.APP, MessageType.APP_RESP, MessageType.HEARTBEAT


def elected(ids: str = "abc", learners: str = "", **options: Any) -> Cluster:
    net = cluster(ids, learners, **options)
    net.elect("a")
    net.sent.clear()
    return net


# -- the window of appends -------------------------------------------------------------------------


def test_the_window_counts_appends_and_bytes_and_forgets_neither() -> None:
    window = Inflights(3, 100)
    window.add(1, 10)
    window.add(2, 90)
    assert (window.full, len(window), window.bytes) == (True, 2, 100)
    window.free_to(1)
    assert (window.full, window.bytes) == (False, 90)
    window.add(3, 1)
    window.add(4, 0)
    assert window.full  # three appends
    window.free_to(4)
    assert (len(window), window.bytes) == (0, 0)
    window.add(9, 500)
    assert window.full
    window.clear()
    assert (window.full, window.bytes) == (False, 0)


def test_a_peer_that_does_not_answer_gets_a_windowful_and_no_more() -> None:
    net = elected(max_append_bytes=10, max_inflight_bytes=35)
    net.drop = lambda m: m.type is APP_RESP and m.sender == "c"
    for _ in range(20):
        net.propose("a", b"x" * 10)
    sent = [m for m in of_type(net.sent, APP) if m.to == "c" and m.entries]
    assert sum(len(e.data) for m in sent for e in m.entries) == 40
    net.drop = lambda m: False
    net.tick(4 * HEARTBEAT)
    assert len(net["c"].data) == 20
    assert net["a"].node._raft.progress["c"].window.bytes == 0


def test_one_entry_larger_than_every_limit_passes() -> None:
    limits = dict.fromkeys(("append", "inflight", "uncommitted", "apply"), 5)
    net = elected(**{f"max_{name}_bytes": bound for name, bound in limits.items()})
    for _ in range(3):
        net.propose("a", b"x" * 1000)
    assert net["c"].data == [b"x" * 1000] * 3


# -- the quota of the uncommitted log --------------------------------------------------------------


def test_proposals_beyond_the_quota_are_refused_as_busy_until_something_is_committed() -> None:
    net = elected(max_uncommitted_bytes=100)
    net.cut = {"b", "c"}
    for _ in range(10):
        net.propose("a", b"x" * 10)
    with pytest.raises(Busy, match="100 bytes wait for a majority already; try again"):
        net["a"].node.propose(b"y")
    assert issubclass(Busy, ProposalDropped)
    net["a"].node.propose_conf_change(ConfChange.one(ConfChangeType.ADD_LEARNER, "d"))
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    net.propose("a", b"y")
    assert net["b"].data[-1] == b"y"
    assert net["a"].node._raft.quota.bytes == 0


def test_an_empty_quota_takes_anything_and_no_data_is_always_taken() -> None:
    quota = Quota(10)
    assert quota.admits(1000)
    quota.add(1, 1000)
    assert not quota.admits(1)
    quota.committed(1)
    assert (quota.bytes, quota.admits(11)) == (0, True)
    quota.add(2, 10)
    assert quota.admits(0)


def test_the_quota_is_empty_at_idle_whatever_happened_before() -> None:
    net = elected("abcde", max_uncommitted_bytes=500)
    for round in range(6):
        leader = net.leaders()[-1]
        net.cut = {id for id in "abcde" if id != leader}
        for _ in range(10):
            net[leader].node.propose(b"x" * 20)
        net.settle()
        net.cut = {leader}
        heir = "abcde"[round % 5] if "abcde"[round % 5] != leader else "abcde"[(round + 1) % 5]
        for id in "abcde":
            net[id].node.forget_leader()
        net[heir].node.campaign()
        net.settle()
        net.propose(heir, b"y" * 20)
        net.cut = set()
        net.tick(3 * HEARTBEAT)
    assert [net[id].node._raft.quota.bytes for id in "abcde"] == [0] * 5
    assert len({tuple(net[id].data) for id in "abcde"}) == 1


# -- pages of committed entries --------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 10, 25, 1000])
def test_committed_entries_come_in_pages_without_gap_or_repeat(limit: int) -> None:
    entries = [Entry(i, 1, EntryType.NORMAL, b"x" * 10) for i in range(1, 21)]
    peer = Peer("a", MemoryStorage(HardState(1, None, 15), entries, base("abc")),
                max_apply_bytes=limit)  # fmt: skip
    pages = []
    while peer.node.has_ready():
        ready = peer.node.ready()
        pages.append(len(ready.committed))
        if len(pages) == 2:  # more is committed while a page is applied
            peer.node.step(heartbeat(18))
        peer.finish(ready)
    assert [e.index for e in peer.applied] == list(range(1, 16 if len(pages) < 2 else 19))
    assert max(pages) == max(1, min(limit // 10, 15))
    assert peer.node.status().applied == peer.node.status().commit


def heartbeat(commit: int) -> Message:
    return Message(BEAT, "a", "b", 1, commit=commit)


# -- heartbeats ------------------------------------------------------------------------------------


def test_learners_hear_less_often_and_one_after_the_other() -> None:
    learners = "defghi"
    net = elected("abc", learners, learner_heartbeat_ticks=6)
    net.tick(6)
    net.sent.clear()
    per_tick = []
    for _ in range(12):
        before = len(of_type(net.sent, BEAT))
        net.tick(1)
        per_tick.append(sum(m.to in learners for m in of_type(net.sent, BEAT)[before:]))
    assert per_tick == [1] * 12
    beats = [m.to for m in of_type(net.sent, BEAT)]
    assert {id: beats.count(id) for id in "bcdi"} == {"b": 6, "c": 6, "d": 2, "i": 2}


def test_a_learner_that_lost_something_gets_it_after_its_next_heartbeat() -> None:
    net = elected("a", "d", learner_heartbeat_ticks=5)
    net.cut = {"d"}
    net.propose("a", b"x")
    net.cut = set()
    net.tick(5)
    assert net["d"].data == [b"x"]


# -- work in proportion to what changed ------------------------------------------------------------


def test_an_acknowledgement_concerns_its_sender_only() -> None:
    net = elected("abc", "".join(chr(ord("d") + n) for n in range(20)))
    raft = net["a"].node._raft
    net["a"].node.propose(b"x")
    net["a"].drain()
    net["a"].node.step(ack("d", 2))
    assert list(raft.stirred) == ["d"]
    assert not net["a"].node.has_ready()
    assert list(raft.stirred) == []
    net["a"].node.step(ack("b", 2))  # committed: news for all
    assert len(raft.stirred) == 22


def ack(sender: str, index: int) -> Message:
    return Message(APP_RESP, "a", sender, 1, index=index)


def test_a_status_is_cheap_and_its_progress_is_the_newest() -> None:
    net = elected()
    status = net["a"].node.status()
    assert list(status.progress) == ["a", "b", "c"]
    assert (len(status.progress), status.progress["b"].match) == (3, 1)
    net.propose("a", b"x")
    assert (status.commit, status.progress["b"].match) == (1, 2)
    assert not lone().node.status().progress
