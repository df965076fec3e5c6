"""Getting the log to everybody: round trips, lost messages, slow disks, small windows, restarts."""

from random import Random
from typing import Any

import pytest

from consensus.errors import ProposalDropped, SafetyViolation
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import Role
from consensus.progress import ProgressState
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, cluster, lone, of_type

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP


def elected(ids: str = "abc", learners: str = "", **options: Any) -> Cluster:
    net = cluster(ids, learners, **options)
    net.elect("a")
    net.sent.clear()
    return net


def test_a_commit_takes_one_round_trip_and_followers_learn_at_once() -> None:
    net = elected()
    net["a"].node.propose(b"x")
    out = net["a"].drain()
    assert [len(m.entries) for m in out] == [1, 1]
    net.deliver(out)
    net.deliver(net["b"].drain())  # one acknowledgement is a majority
    told = net["a"].drain()
    assert net["a"].data == [b"x"]
    assert [m.commit for m in told if m.to == "b"] == [2]
    net.deliver(told)
    net["b"].drain()
    assert net["b"].data == [b"x"]


def test_an_idle_cluster_exchanges_heartbeats_only() -> None:
    net = elected()
    net.tick(10 * HEARTBEAT)
    assert {m.type for m in net.sent} == {MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP}
    assert len(net.sent) == 10 * 2 * 2


def test_each_entry_crosses_the_wire_once_per_peer() -> None:
    net = elected()
    for n in range(20):
        net["a"].node.propose(b"%d" % n)
        net.settle()
    assert sum(len(m.entries) for m in net.sent) == 20 * 2


def test_an_acknowledgement_waits_for_the_followers_disk() -> None:
    net = elected()
    net["b"].hold_disk = net["c"].hold_disk = True
    net.propose("a", b"x")
    assert net["a"].data == []
    net.deliver(net["b"].release())
    net.settle()
    assert net["a"].data == [b"x"]


def test_own_append_counts_only_when_it_is_durable() -> None:
    net = elected()
    net["a"].hold_disk = True
    net.cut = {"c"}
    net["b"].hold_disk = True
    net.propose("a", b"x")
    net.deliver(net["b"].release())
    assert net["a"].node.status().commit == 1  # b alone is no majority of three
    net.deliver(net["a"].release())
    assert net["a"].node.status().commit == 2


def test_a_leader_that_lost_office_during_its_write_does_not_count_it() -> None:
    net = elected()
    net["a"].hold_disk = True
    net.cut = {"b", "c"}
    net["a"].node.propose(b"x")
    net["a"].drain()
    net["a"].node.step(Message(APP, "a", "b", 2, 1, 1, entries=(Entry(2, 2),)))
    net["a"].release()
    assert (net["a"].terms, net["a"].node.status().commit) == ([1, 2], 1)


@pytest.mark.parametrize("kind", [APP, APP_RESP])
def test_lost_messages_are_repaired_within_two_heartbeats(kind: MessageType) -> None:
    net = elected()
    net.drop = lambda m: m.type is kind
    net.propose("a", b"x")
    net.drop = lambda m: False
    net.tick(2 * HEARTBEAT)
    assert all(net[id].data == [b"x"] for id in "abc")


def test_a_lost_commit_index_comes_with_the_heartbeat() -> None:
    net = elected()
    net.drop = lambda m: m.type is APP and not m.entries
    net.propose("a", b"x")
    assert net["b"].data == []
    net.tick(HEARTBEAT)
    assert net["b"].data == [b"x"]


def test_an_unreachable_peer_gets_one_append_at_a_time_until_it_answers() -> None:
    net = elected()
    net.cut = {"c"}
    net["a"].node.report_unreachable("c")
    assert net["a"].node.status().progress["c"].state is ProgressState.PROBE
    for n in range(30):
        net.propose("a", b"%d" % n)
    assert len([m for m in of_type(net.sent, APP) if m.to == "c"]) == 1
    net.cut = set()
    net.tick(HEARTBEAT)
    assert net["c"].data == net["a"].data
    assert net["a"].node.status().progress["c"].state is ProgressState.REPLICATE


def test_a_silent_peer_gets_no_more_than_the_window() -> None:
    net = elected(max_inflight=4)
    net.cut = {"c"}
    for n in range(30):
        net.propose("a", b"%d" % n)
    assert len([m for m in of_type(net.sent, APP) if m.to == "c"]) <= 2 * 4
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net["c"].data == net["a"].data


def test_large_backlogs_travel_in_bounded_messages() -> None:
    net = elected(max_append_bytes=100, max_inflight=3)
    net.cut = {"c"}
    for _ in range(40):
        net.propose("a", b"x" * 30)
    net.cut = set()
    net.sent.clear()
    net.tick(2 * HEARTBEAT)
    assert net["c"].data == net["a"].data
    assert max(len(m.entries) for m in net.sent) == 3


def test_the_window_is_respected_within_one_ready() -> None:
    net = elected(max_append_bytes=10, max_inflight=3)
    for _ in range(10):
        net["a"].node.propose(b"x" * 10)
    out = net["a"].drain()
    assert len([m for m in of_type(out, APP) if m.to == "b"]) == 3
    net.deliver(out)
    net.settle()
    assert len(net["b"].data) == 10


def test_late_and_repeated_appends_and_answers_do_no_harm() -> None:
    net = elected()
    for n in range(6):
        net.propose("a", b"%d" % n)
    old = list(net.sent)
    Random(1).shuffle(old)
    before = {id: (net[id].terms, net[id].node.status().commit) for id in "abc"}
    match = {id: p.match for id, p in net["a"].node.status().progress.items()}
    net.deliver(old)
    net.settle()
    assert {id: (net[id].terms, net[id].node.status().commit) for id in "abc"} == before
    assert {id: p.match for id, p in net["a"].node.status().progress.items()} == match


def test_a_late_append_does_not_cut_what_came_after_it() -> None:
    peer = lone(term=1)  # raftos#26, async-raft 9540c904
    peer.step(APP, "b", 1, entries=(Entry(1, 1), Entry(2, 1), Entry(3, 1)))
    peer.step(APP, "b", 1, entries=(Entry(1, 1),))
    peer.step(APP, "b", 1, index=1, log_term=1)
    assert peer.terms == [1, 1, 1]


def test_the_commit_index_follows_what_was_checked_not_what_is_there() -> None:
    peer = lone(terms=[1, 1, 1], term=2)  # 2 and 3 may not be the leader's
    peer.step(APP, "b", 2, index=1, log_term=1, commit=3)
    assert peer.node.status().commit == 1


def test_a_heartbeat_cannot_commit_what_is_not_there() -> None:
    peer = lone(terms=[1], term=1)
    peer.step(MessageType.HEARTBEAT, "b", 1, commit=5)
    assert peer.node.status().commit == 0


def test_answers_beyond_the_log_or_from_strangers_are_ignored() -> None:
    net = elected()
    net["a"].step(APP_RESP, "b", 1, index=99)
    net["a"].step(APP_RESP, "x", 1, index=1)
    net["a"].step(MessageType.HEARTBEAT_RESP, "x", 1)
    net["a"].step(APP_RESP, "b", 1, index=99, reject=True, reject_hint=70, log_term=9)
    status = net["a"].node.status()
    assert (status.commit, set(status.progress)) == (1, set("abc"))
    net.propose("a", b"x")
    assert net["b"].data == [b"x"]


def test_an_append_below_the_commit_index_is_answered_and_not_looked_at() -> None:
    peer = lone(terms=[1, 1], term=1, commit=2)
    (answer,) = peer.step(APP, "c", 3, index=1, log_term=1, entries=(Entry(2, 3),))
    assert (answer.index, answer.reject, peer.terms) == (2, False, [1, 1])


def test_only_the_leader_takes_proposals() -> None:
    net = elected()
    with pytest.raises(ProposalDropped, match="not the leader"):
        net["b"].node.propose(b"x")


def test_learners_get_everything_and_count_for_nothing() -> None:
    net = elected("ab", learners="c")
    net.propose("a", b"x")
    assert net["c"].data == [b"x"]
    net.cut = {"b"}
    net.propose("a", b"y")
    assert net["a"].data == [b"x"]


@pytest.mark.parametrize("victims", ["a", "b", "ab", "abc"])
def test_agreements_survive_restarts(victims: str) -> None:
    net = elected()
    for n in range(5):
        net.propose("a", b"%d" % n)
    for id in victims:
        net.restart(id)
    net.tick(6 * ELECTION)
    (leader,) = net.leaders()
    net.propose(leader, b"new")
    assert all(net[id].data == [b"0", b"1", b"2", b"3", b"4", b"new"] for id in "abc")


def test_a_partitioned_leaders_entries_are_overwritten() -> None:
    net = elected()
    net.cut = {"a"}
    for n in range(3):
        net.propose("a", b"lost %d" % n)
    for id in "bc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    net.propose("b", b"kept")
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net.role("a") is Role.FOLLOWER
    assert all(net[id].data == [b"kept"] for id in "abc")
    assert net["a"].terms == net["b"].terms


def test_a_lossy_network_delays_and_loses_nothing() -> None:
    for seed in range(10):
        rng, net = Random(seed), elected("abcde")
        net.drop = lambda m, rng=rng: rng.random() < 0.3  # type: ignore[misc]
        wanted: list[bytes] = []
        for n in range(40):
            net.tick()
            for leader in net.leaders()[:1]:
                net.propose(leader, b"%d" % n)
        net.drop = lambda m: False
        net.tick(8 * ELECTION)
        wanted = net[net.leaders()[0]].data
        assert all(net[id].data == wanted for id in "abcde"), f"seed {seed}"
        assert len(wanted) > 20, f"seed {seed}"


def test_applied_entries_have_no_gap_and_no_repeat() -> None:
    net = elected()
    for n in range(10):
        net["a"].node.propose(b"%d" % n)
        if n % 3 == 0:
            net.settle()
    net.settle()
    for id in "abc":
        assert [e.index for e in net[id].applied] == list(range(1, 12))
        assert {e.type for e in net[id].applied} == {EntryType.NORMAL}


def test_a_leader_without_what_is_committed_here_stops_the_peer() -> None:
    peer = lone(terms=[1, 1, 1], term=1, commit=3)
    with pytest.raises(SafetyViolation, match="another entry 2"):
        peer.step(APP, "c", 3, index=2, log_term=3)
