"""Situations in which published implementations of Raft lost data, stood still or crashed.

Each test is one of them, at the level of the core. What needs disks, clients or whole peers is
tested with those.
"""

from itertools import permutations
from random import Random

import pytest

from consensus.changes import ConfChange, ConfChangeType, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.node import Role
from consensus.progress import ProgressState
from consensus.quorum import JointConfig
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, base, cluster, lone, of_type

APP, APP_RESP, SNAP = MessageType.APP, MessageType.APP_RESP, MessageType.SNAP
VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP
PRE_VOTE, PRE_VOTE_RESP = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP
BEAT, BEAT_RESP = MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP


def leading(terms: list[int], voters: str = "abc", **options: int) -> Peer:
    """a leads the term after its log's last, and nobody has answered an append yet."""
    peer = lone(voters=voters, terms=terms, pre_vote=False, **options)
    peer.node.campaign()
    peer.drain()
    for voter in voters[1:]:
        peer.step(VOTE_RESP, voter, peer.node.status().term)
    assert peer.node.status().role is Role.LEADER
    return peer


# -- reads -----------------------------------------------------------------------------------------


def test_a_read_after_a_pause_is_not_confirmed_by_answers_from_before_it() -> None:
    """The leader slept; meanwhile another led and fell. Old answers arrive in any number."""
    net = cluster()
    net.elect("a")
    late: list[Message] = []
    net.drop = lambda m: m.type is BEAT_RESP and not late.append(m)
    net["a"].node.read_index(b"r")
    net.tick(HEARTBEAT)
    net.drop = lambda m: "a" in (m.to, m.sender)
    for id in "bc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    net.propose("b", b"newer")
    net["a"].node.read_index(b"r")  # the client asks again
    old = {m.context for m in late}
    net["a"].drain()
    fresh = net["a"].node._raft.reads.newest_key()
    assert fresh not in old
    held = [m for m in late for _ in range(3)]
    reads = len(net["a"].reads)
    for message in held:
        net["a"].node.step(message)
    net["a"].drain()
    assert all(state.index <= 1 for state in net["a"].reads)
    assert len(net["a"].reads) <= reads + 1  # the first attempt at most, never the second
    assert fresh in net["a"].node._raft.reads.rounds


def test_a_new_leader_answers_no_read_before_its_own_entry_is_committed() -> None:
    peer = leading([1, 1])
    peer.node.read_index(b"r")
    assert peer.drain() == []
    for voter in "bc":
        peer.step(BEAT_RESP, voter, 2)
    assert peer.reads == []


# -- what a leader knows of the others -------------------------------------------------------------


def test_answers_in_any_order_and_number_move_nothing_back() -> None:
    answers = [Message(APP_RESP, "a", "b", 2, index=i) for i in (1, 3, 4)]
    refusal = Message(APP_RESP, "a", "b", 2, index=2, reject=True, reject_hint=1, log_term=1)
    for order in permutations([*answers, refusal]):
        peer = leading([1, 1, 1])
        seen = [(0, 0)]
        for message in [*order, *order]:
            peer.node.step(message)
            peer.drain()
            status = peer.node.status()
            seen.append((status.progress["b"].match, status.commit))
            assert status.progress["b"].next > status.progress["b"].match
        assert seen == sorted(seen)
        assert seen[-1] == (4, 4)


def test_nothing_of_an_earlier_term_is_known_to_a_leader_that_leads_again() -> None:
    peer = leading([1, 1, 1])
    peer.step(APP_RESP, "b", 2, index=4)
    peer.step(BEAT, "c", 3)
    peer.node.forget_leader()
    peer.node.campaign()
    peer.drain()
    peer.step(VOTE_RESP, "c", 4)
    assert peer.node.status().progress["b"].match == 0
    peer.step(APP_RESP, "b", 2, index=4)  # an answer of then
    assert peer.node.status().progress["b"].match == 0


def test_an_answer_for_entries_the_leader_does_not_have_counts_for_nothing() -> None:
    peer = leading([1])
    peer.step(APP_RESP, "b", 2, index=99)
    assert (peer.node.status().commit, peer.node.status().progress["b"].match) == (0, 0)


def test_a_refusal_that_comes_late_does_not_restart_a_stream() -> None:
    peer = leading([1, 1, 1])
    peer.step(APP_RESP, "b", 2, index=4)
    for index in (2, 3, 4):
        peer.step(APP_RESP, "b", 2, index=index, reject=True, reject_hint=0)
    assert peer.node.status().progress["b"].state is ProgressState.REPLICATE
    assert peer.node.status().progress["b"].next == 5


def test_a_peer_that_lost_its_log_and_says_so_does_not_stop_the_leader() -> None:
    peer = leading([1, 1, 1])
    peer.step(APP_RESP, "b", 2, index=4)
    peer.node.propose(b"x")
    peer.drain()
    peer.step(APP_RESP, "b", 2, index=5, reject=True, reject_hint=0)
    assert peer.node.status().role is Role.LEADER
    assert peer.node.status().progress["b"].match == 4


# -- what a follower keeps -------------------------------------------------------------------------


def test_an_old_append_does_not_erase_what_came_after_it() -> None:
    peer = lone(term=1)
    first = {"entries": (Entry(1, 1),)}
    peer.step(APP, "b", 1, **first)
    peer.step(APP, "b", 1, index=1, log_term=1, entries=(Entry(2, 1), Entry(3, 1)), commit=2)
    (answer,) = peer.step(APP, "b", 1, **first)
    assert (peer.terms, answer.reject) == ([1, 1, 1], False)


def test_a_shorter_append_of_the_same_entries_erases_nothing() -> None:
    peer = lone(terms=[1, 1, 1, 1], term=1)
    (answer,) = peer.step(APP, "b", 2, index=1, log_term=1, entries=(Entry(2, 1),))
    assert (peer.terms, answer.index) == ([1, 1, 1, 1], 2)  # and only that much is confirmed


def test_a_heartbeat_from_before_an_append_commits_nothing_new_and_takes_nothing_back() -> None:
    peer = lone(terms=[1, 1], term=2)
    peer.step(APP, "b", 2, index=2, log_term=1, commit=3, entries=(Entry(3, 2),))
    peer.step(BEAT, "b", 2, commit=0)
    peer.step(BEAT, "b", 2, commit=2)
    assert (peer.node.status().commit, peer.terms) == (3, [1, 1, 2])


def test_a_refusal_tells_the_term_so_that_an_old_leader_learns_it() -> None:
    peer = lone(terms=[1], term=7)
    for kind in (APP, BEAT):
        (answer,) = peer.step(kind, "b", 3)
        assert Message.from_wire(answer.to_wire()).term == 7


# -- commits and votes -----------------------------------------------------------------------------


def test_an_old_entry_does_not_wait_for_the_next_proposal() -> None:
    net = Cluster([lone("a", terms=[1], term=1), lone("b", terms=[1]), lone("c")])
    net.elect("a")
    assert net["c"].data == [b"1"]


@pytest.mark.parametrize(("mine", "theirs", "granted"), [
    ([1, 1, 1], (1, 2), True), ([2], (9, 1), False), ([1, 2], (1, 3), True), ([3], (7, 2), False),
])  # fmt: skip
def test_the_last_term_decides_before_the_length(
    mine: list[int], theirs: tuple[int, int], granted: bool
) -> None:
    peer = lone(terms=mine)
    (answer,) = peer.step(VOTE, "b", 9, index=theirs[0], log_term=theirs[1])
    assert answer.reject != granted


def test_learners_alone_commit_nothing() -> None:
    net = cluster("abc", "de")
    net.elect("a")
    net.cut = {"b", "c"}
    net.propose("a", b"x")
    assert net["d"].storage.last_index() == 2
    assert (net["a"].data, net["a"].node.status().commit) == ([], 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_quorum_tracker_that_is_wrong_by_one_would_be_seen(seed: int) -> None:
    """Against the definition: the greatest index that more than half of each half holds."""
    rng = Random(seed)
    for _ in range(50):
        ids = [f"n{n}" for n in range(rng.randint(1, 9))]
        halves = [frozenset(rng.sample(ids, rng.randint(1, len(ids)))) for _ in range(2)]
        acked = {id: rng.randint(0, 9) for id in ids if rng.random() < 0.8}
        held = [
            index
            for index in range(10)
            if all(2 * sum(acked.get(id, 0) >= index for id in half) > len(half) for half in halves)
        ]
        assert JointConfig(*halves).committed_index(acked) == max(held)


def test_a_vote_for_an_earlier_candidacy_is_not_counted() -> None:
    peer = lone(term=1, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    for _ in range(2 * ELECTION):  # and again, in a later term
        peer.node.tick()
        peer.drain()
    assert peer.node.status().term >= 3
    for voter in "bc":
        peer.step(VOTE_RESP, voter, 2)
    assert peer.node.status().role is Role.CANDIDATE


def test_a_pre_vote_is_not_counted_as_a_vote_nor_for_another_term() -> None:
    peer = lone(term=1)
    peer.node.campaign()
    peer.drain()
    for voter in "bc":
        peer.step(PRE_VOTE_RESP, voter, 9)
        peer.step(VOTE_RESP, voter, 1)
    assert peer.node.status().role is Role.PRE_CANDIDATE


def test_a_leader_grants_nobody_a_pre_vote() -> None:
    net = cluster()
    net.elect("a")
    assert net["a"].step(PRE_VOTE, "b", 2, index=9, log_term=1) == []
    assert net.role("a") is Role.LEADER


def test_a_pre_vote_does_not_count_as_contact_with_a_leader() -> None:
    peer = lone(term=1)
    for _ in range(ELECTION):
        peer.node.tick()
        peer.step(PRE_VOTE, "b", 2)
    for _ in range(ELECTION):
        peer.node.tick()
    assert peer.node.status().role is not Role.FOLLOWER


def test_who_is_no_voter_neither_stands_nor_is_asked() -> None:
    net = cluster("abc", "d")
    net.elect("a")
    net.change("a", ConfChangeType.REMOVE, "c")
    net.sent.clear()
    for id in "cd":
        net[id].node.forget_leader()
        net[id].node.campaign()
    net.cut = {"a"}
    net.tick(4 * ELECTION)
    asked = [m for m in net.sent if m.type in (VOTE, PRE_VOTE)]
    assert {m.sender for m in asked} == {m.to for m in asked} == {"a", "b"}


def test_a_membership_change_that_is_committed_but_not_applied_keeps_a_peer_from_standing() -> None:
    """It might count the wrong majority: two leaders of one term are the end of that."""
    change = ConfChange.one(ConfChangeType.REMOVE, "c").encode()
    storage = MemoryStorage(
        HardState(1, None, 1), [Entry(1, 1, EntryType.CONF_CHANGE, change)], base("abc")
    )
    peer = Peer("a", storage)
    peer.node.ready()  # and the host is slow to apply it
    for _ in range(3 * ELECTION):
        peer.node.tick()
    peer.node.step(Message(MessageType.TIMEOUT_NOW, "a", "b", 1))
    assert (peer.node.status().role, peer.node.status().term) == (Role.FOLLOWER, 1)


# -- compaction ------------------------------------------------------------------------------------


def test_a_follower_that_compacted_appends_nothing_at_the_beginning_again() -> None:
    peer = lone(terms=[1, 1, 1], commit=3)
    peer.storage.compact(3)
    (answer,) = peer.step(APP, "b", 1, entries=tuple(Entry(i, 1) for i in (1, 2, 3, 4)))
    assert (answer.index, peer.terms, peer.storage.first_index()) == (3, [], 4)


def test_no_append_stands_on_an_entry_that_the_leader_forgot() -> None:
    """Its term would be unknown, and the follower would refuse, or worse, accept it."""
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    for _ in range(3):
        net.propose("a", b"x")
    net["a"].compact()
    net.cut = set()
    net.tick(3 * HEARTBEAT)
    assert all(m.log_term or not m.index for m in of_type(net.sent, APP))
    assert net["c"].restored


def test_a_snapshot_lowers_neither_term_nor_commit() -> None:
    peer = lone(terms=[1, 1, 5], term=8, commit=3)
    peer.step(SNAP, "b", 8, snapshot=SnapshotMeta(2, 1, base("abc").conf))
    peer.step(SNAP, "b", 9, snapshot=SnapshotMeta(9, 6, base("abc").conf))
    status = peer.node.status()
    assert (status.term, status.commit, peer.storage.hard_state.term) == (9, 9, 9)


def test_a_tail_that_contradicts_a_snapshot_is_not_put_behind_it() -> None:
    peer = lone(terms=[1, 1, 1, 1, 1], term=3, commit=1)
    peer.step(SNAP, "b", 3, snapshot=SnapshotMeta(3, 2, base("abc").conf))
    assert (peer.terms, peer.node.status().last_index) == ([], 3)
    (answer,) = peer.step(APP, "b", 3, index=4, log_term=1, commit=4)
    assert (answer.reject, peer.node.status().commit) == (True, 3)


# -- books that must balance -----------------------------------------------------------------------


def test_pages_of_committed_entries_skip_nothing_while_more_is_committed() -> None:
    net = cluster(max_apply_bytes=30)
    net.elect("a")
    net.cut = {"c"}
    for n in range(40):
        net["a"].node.propose(b"%10d" % n)
    net.settle()
    net.cut = set()
    net.tick(3 * HEARTBEAT)
    for id in "abc":
        assert [e.index for e in net[id].applied] == list(range(1, 42))


def test_at_idle_every_counter_is_zero() -> None:
    rng = Random(7)
    net = cluster("abcde", max_uncommitted_bytes=400, max_inflight=2, max_inflight_bytes=50)
    net.drop = lambda m: rng.random() < 0.2
    net.tick(3 * ELECTION)
    for n in range(60):
        for id in net.leaders()[-1:]:
            if net[id].node._raft.quota.admits(20):
                net[id].node.propose(b"%20d" % n)
            net[id].node.report_unreachable(rng.choice("abcde"))
            net[id].node.read_index(b"%d" % n)
        net.tick(1)
    net.drop = lambda m: False
    net.tick(8 * ELECTION)
    (leader,) = net.leaders()
    raft = net[leader].node._raft
    assert raft.quota.bytes == 0
    assert [(len(p.window), p.window.bytes) for p in raft.progress.values()] == [(0, 0)] * 5
    assert (raft.reads.asked, raft.reads.rounds, raft.stirred) == ([], {}, {})
    assert all(not peer.node.has_ready() for peer in net.peers.values())
    assert raft.log.committed == raft.log.last_index()
