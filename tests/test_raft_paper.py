"""One test per claim of the Raft paper (extended version) and the dissertation, by section."""

from itertools import pairwise
from typing import Any

import pytest

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import ProposalDropped
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import Role
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, cluster, lone, of_type

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP
VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP


def in_role(role: Role, **options: Any) -> Peer:
    """A peer of {a, b, c} in term 1 (2 as a leader that won by b's vote)."""
    peer = lone(term=1, pre_vote=False, **options)
    if role is not Role.FOLLOWER:
        peer.node.campaign()
        peer.drain()
    if role is Role.LEADER:
        peer.step(VOTE_RESP, "b", 2)
    assert peer.node.status().role is role
    return peer


# -- §5.1 Raft basics ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_5_1_a_larger_term_is_adopted_and_makes_a_follower(role: Role) -> None:
    peer = in_role(role)
    peer.step(APP, "b", 9)
    status = peer.node.status()
    assert (status.term, status.role, status.leader) == (9, Role.FOLLOWER, "b")


def test_5_1_a_request_with_a_stale_term_is_rejected() -> None:
    peer = lone(term=5)
    (answer,) = peer.step(APP, "b", 4, entries=(Entry(1, 4),))
    assert (answer.type, answer.term) == (APP_RESP, 5)
    assert peer.node.status().last_index == 0


def test_5_1_current_term_survives_a_restart() -> None:
    net = cluster()
    net.elect("a")
    assert net.restart("a").node.status().term == 1


# -- §5.2 Leader election --------------------------------------------------------------------------


def test_5_2_a_server_starts_as_follower() -> None:
    assert lone().node.status().role is Role.FOLLOWER


def test_5_2_the_leader_sends_heartbeats_to_all() -> None:
    peer = in_role(Role.LEADER)
    for _ in range(HEARTBEAT):
        peer.node.tick()
    beats = of_type(peer.drain(), MessageType.HEARTBEAT)
    assert {m.to for m in beats} == {"b", "c"}


def test_5_2_heartbeats_keep_a_follower_a_follower() -> None:
    peer = lone(term=1)
    for _ in range(5 * ELECTION):
        peer.node.tick()
        peer.step(MessageType.HEARTBEAT, "b", 1)
    assert peer.node.status().role is Role.FOLLOWER


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE])
def test_5_2_silence_starts_an_election(role: Role) -> None:
    peer = in_role(role)
    term = peer.node.status().term
    sent: list[Message] = []
    for _ in range(2 * ELECTION - 1):
        peer.node.tick()
        sent += peer.drain()
    assert peer.node.status().role is Role.CANDIDATE
    assert {(m.to, m.term) for m in of_type(sent, VOTE)} >= {("b", term + 1), ("c", term + 1)}
    assert peer.storage.hard_state.vote == "a"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_5_2_a_candidate_wins_with_a_majority_of_the_full_cluster(size: int) -> None:
    ids = "abcde"[:size]
    for yes in range(size):
        peer = lone(voters=ids, term=1, pre_vote=False)
        peer.node.campaign()
        peer.drain()
        for voter in ids[1 : 1 + yes]:
            peer.step(VOTE_RESP, voter, 2)
        won = yes + 1 > size // 2
        assert (peer.node.status().role is Role.LEADER) == won


def test_5_2_a_candidate_that_a_majority_refused_gives_up() -> None:
    peer = in_role(Role.CANDIDATE)
    peer.step(VOTE_RESP, "b", 2, reject=True)
    assert peer.node.status().role is Role.CANDIDATE
    peer.step(VOTE_RESP, "c", 2, reject=True)
    assert peer.node.status().role is Role.FOLLOWER


@pytest.mark.parametrize(("vote", "asker", "granted"), [
    (None, "b", True), (None, "c", True), ("b", "b", True), ("c", "c", True),
    ("b", "c", False), ("c", "b", False),
])  # fmt: skip
def test_5_2_one_vote_per_term_first_come(vote: str | None, asker: str, granted: bool) -> None:
    peer = lone(term=1, vote=vote)
    (answer,) = peer.step(VOTE, asker, 1)
    assert (answer.type, answer.reject) == (VOTE_RESP, not granted)


@pytest.mark.parametrize("term", [2, 3])
def test_5_2_a_candidate_yields_to_a_leader_of_its_term_or_later(term: int) -> None:
    peer = in_role(Role.CANDIDATE)
    peer.step(APP, "b", term)
    status = peer.node.status()
    assert (status.role, status.leader, status.term) == (Role.FOLLOWER, "b", term)


def timeouts(seeds: range) -> set[int]:
    """Ticks of silence until a follower stands, for each seed."""
    found = set()
    for seed in seeds:
        peer, ticks = lone(pre_vote=False, seed=seed), 0
        while peer.node.status().role is Role.FOLLOWER:
            peer.node.tick()
            ticks += 1
        found.add(ticks)
    return found


def test_5_2_election_timeouts_are_random_between_one_and_two_intervals() -> None:
    assert timeouts(range(300)) == set(range(ELECTION, 2 * ELECTION))


def test_5_2_random_timeouts_make_split_votes_rare() -> None:
    split = 0
    for seed in range(200):
        peers = [lone(id, voters="abcde", seed=seed, pre_vote=False) for id in "abcde"]
        while not (standing := [p for p in peers if p.node.status().role is Role.CANDIDATE]):
            for peer in peers:
                peer.node.tick()
        split += len(standing) > 1
    assert split < 200 * 0.5


def test_5_2_a_split_vote_ends_in_another_term() -> None:
    net = Cluster(lone(id, voters="abcd", pre_vote=False) for id in "abcd")
    net.drop = lambda m: m.type is VOTE and (m.sender + m.to) not in ("ac", "bd")
    for id in "ab":
        net[id].node.campaign()
    net.settle()
    assert net.leaders() == []
    net.drop = lambda m: False
    net.tick(6 * ELECTION)
    assert len(net.leaders()) == 1


# -- §5.3 Log replication --------------------------------------------------------------------------


def test_5_3_a_proposal_is_appended_and_sent_to_all() -> None:
    peer = in_role(Role.LEADER)
    for id in "bc":
        peer.step(APP_RESP, id, 2, index=1)
    assert peer.node.propose(b"x") == 2
    sent = of_type(peer.drain(), APP)
    assert {m.to for m in sent} == {"b", "c"}
    assert {(m.index, m.log_term, m.commit, m.entries) for m in sent} == {
        (1, 2, 1, (Entry(2, 2, EntryType.NORMAL, b"x"),))
    }


@pytest.mark.parametrize(("size", "acks"), [(1, 0), (3, 1), (3, 2), (5, 1), (5, 2), (5, 4)])
def test_5_3_an_entry_is_committed_when_a_majority_holds_it(size: int, acks: int) -> None:
    net = cluster("abcde"[:size])
    net.elect("a")
    followers = "bcde"[: size - 1]
    net.cut = set(followers[acks:])
    net.propose("a", b"x")
    assert (net["a"].data == [b"x"]) == (acks + 1 > size // 2)


@pytest.mark.parametrize("terms", [[], [2], [1, 2], [1]])
def test_5_3_committing_an_entry_commits_everything_before_it(terms: list[int]) -> None:
    net = Cluster(lone(id, terms=terms, term=2) for id in "abc")
    net.elect("a")
    net.propose("a", b"x")
    assert net["a"].data == [b"%d" % i for i in range(1, len(terms) + 1)] + [b"x"]


def test_5_3_followers_apply_in_order_what_they_learn_is_committed() -> None:
    peer = lone(term=1)
    one, two = Entry(1, 1, EntryType.NORMAL, b"1"), Entry(2, 1, EntryType.NORMAL, b"2")
    peer.step(APP, "b", 1, entries=(one, two))
    assert peer.data == []
    peer.step(APP, "b", 1, index=2, log_term=1, commit=1)
    assert peer.data == [b"1"]
    peer.step(APP, "b", 1, index=2, log_term=1, commit=2)
    assert peer.data == [b"1", b"2"]


@pytest.mark.parametrize(("index", "log_term", "accepted"), [
    (0, 0, True), (1, 1, True), (2, 2, True), (1, 2, False), (2, 1, False), (3, 3, False),
])  # fmt: skip
def test_5_3_consistency_check(index: int, log_term: int, accepted: bool) -> None:
    peer = lone(terms=[1, 2])
    (answer,) = peer.step(APP, "b", 3, index=index, log_term=log_term)
    assert answer.reject != accepted
    assert answer.index == index


@pytest.mark.parametrize(("index", "log_term", "new", "expected"), [
    (2, 2, [3], [1, 2, 3]), (1, 1, [3, 4], [1, 3, 4]), (0, 0, [1], [1, 2]),
    (0, 0, [3], [3]), (1, 1, [2], [1, 2]), (0, 0, [1, 2], [1, 2]),
])  # fmt: skip
def test_5_3_conflicting_entries_are_replaced_others_kept(
    index: int, log_term: int, new: list[int], expected: list[int]
) -> None:
    peer = lone(terms=[1, 2])
    entries = tuple(Entry(index + n, term) for n, term in enumerate(new, 1))
    peer.step(APP, "b", 4, index=index, log_term=log_term, entries=entries)
    assert peer.terms == expected


FIGURE_7 = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
]


@pytest.mark.parametrize("terms", FIGURE_7)
def test_5_3_figure_7_the_leader_makes_followers_logs_equal_its_own(terms: list[int]) -> None:
    leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    net = Cluster([
        lone("a", terms=leader, term=7), lone("b", terms=terms, term=7), lone("c", term=7),
    ])  # fmt: skip
    net.elect("a")
    assert net["b"].terms == net["a"].terms == [*leader, 8]


def test_5_3_hints_skip_a_whole_term_in_one_round_trip() -> None:
    net = Cluster([
        lone("a", terms=[1] + [5] * 60, term=5), lone("b", terms=[1] + [2] * 50 + [3] * 50),
        lone("c", term=5),
    ])  # fmt: skip
    net.elect("a")
    assert net["b"].terms == net["a"].terms
    assert sum(m.reject for m in of_type(net.sent, APP_RESP) if m.sender == "b") <= 2


# -- §5.4 Safety -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("terms", "index", "log_term", "granted"), [
    ([1], 1, 1, True), ([1], 2, 1, True), ([1, 1], 1, 1, False),
    ([1], 1, 2, True), ([1, 1], 1, 2, True), ([2], 2, 1, False), ([1, 2], 2, 1, False),
])  # fmt: skip
def test_5_4_1_votes_only_for_logs_at_least_as_complete(
    terms: list[int], index: int, log_term: int, granted: bool
) -> None:
    peer = lone(terms=terms)
    (answer,) = peer.step(VOTE, "b", 3, index=index, log_term=log_term)
    assert answer.reject != granted


def test_5_4_1_a_request_carries_the_last_index_and_term() -> None:
    peer = lone(terms=[1, 1, 3], pre_vote=False)
    peer.node.campaign()
    assert {(m.index, m.log_term) for m in of_type(peer.drain(), VOTE)} == {(3, 3)}


def test_5_4_2_only_entries_of_its_own_term_are_committed_by_counting() -> None:
    peer = lone(terms=[1, 2], term=2, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    peer.step(VOTE_RESP, "b", 3)  # appends its no-op at 3
    peer.step(APP_RESP, "b", 3, index=2)
    assert peer.node.status().commit == 0
    peer.step(APP_RESP, "b", 3, index=3)
    assert peer.node.status().commit == 3


def test_5_4_a_leader_never_overwrites_its_own_log() -> None:
    net = Cluster([lone("a", terms=[1, 2], term=2), lone("b", terms=[1]), lone("c", terms=[1])])
    net.elect("a")
    logs = [net["a"].terms]
    for _ in range(5):
        net.propose("a", b"x")
        logs.append(net["a"].terms)
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(logs))


# -- §5.5, §6, §8 and the dissertation -------------------------------------------------------------


def test_5_5_repeating_an_append_changes_nothing() -> None:
    peer = lone(term=1)
    fields = {"entries": (Entry(1, 1), Entry(2, 1))}
    first = peer.step(APP, "b", 1, **fields)
    peer.step(APP, "b", 1, index=2, log_term=1, entries=(Entry(3, 1),))
    assert peer.step(APP, "b", 1, **fields) == first
    assert peer.terms == [1, 1, 1]


def test_8_a_new_leader_commits_a_no_op_first() -> None:
    net = cluster()
    net.elect("a")
    assert [(e.index, e.term, e.data) for e in net["b"].applied] == [(1, 1, b"")]


def test_d3_10_leadership_transfer_needs_no_timeout() -> None:
    net = cluster()
    net.elect("a")
    net["a"].node.transfer_leader("c")
    net.settle()
    assert (net.leaders(), net["a"].node.status().leader) == (["c"], "c")


def test_d4_1_a_change_waits_for_an_entry_of_the_leaders_own_term() -> None:
    peer = lone(voters="abcd", term=1, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    for id in "bc":
        peer.step(VOTE_RESP, id, 2)
    change = ConfChange.one(ConfChangeType.ADD_VOTER, "e")
    with pytest.raises(ProposalDropped, match="own term"):
        peer.node.propose_conf_change(change)
    for id in "bc":
        peer.step(APP_RESP, id, 2, index=1)
    assert peer.node.propose_conf_change(change) == 2


def test_d4_2_2_a_leader_that_is_removed_steps_down_once_that_is_committed() -> None:
    net = cluster()
    net.elect("a")
    net.change("a", ConfChangeType.REMOVE, "a")
    assert net.role("a") is Role.FOLLOWER
    assert net["b"].node.status().voters == ("b", "c")
    net.tick(4 * ELECTION)
    assert net.leaders() in (["b"], ["c"])


def test_d4_2_3_a_removed_server_does_not_disturb() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.change("a", ConfChangeType.REMOVE, "c")
    net.tick(5 * ELECTION)
    net.cut = set()
    net.tick(5 * ELECTION)
    assert (net.leaders(), net["a"].node.status().term) == (["a"], 1)


def test_d6_2_a_leader_without_a_quorum_steps_down() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"b", "c"}
    net.tick(ELECTION + 1, only="a")
    assert (net.role("a"), net["a"].node.status().has_quorum_contact) == (Role.FOLLOWER, False)


def test_d9_6_pre_vote_a_partitioned_peer_does_not_raise_the_term() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.tick(10 * ELECTION)
    assert net["c"].node.status().term == 1
    net.cut = set()
    net.tick(2 * ELECTION)
    assert (net.leaders(), net["a"].node.status().term) == (["a"], 1)


def test_d10_2_1_the_leader_sends_before_its_own_disk_is_done() -> None:
    net = cluster()
    net.elect("a")
    net["a"].hold_disk = True
    net.propose("a", b"x")
    assert net["b"].storage.last_index() == 2
    assert net["a"].storage.last_index() == 1
    assert net["a"].node.status().commit == 2  # two of three hold it, the leader is not needed


def test_d10_2_2_proposals_made_together_travel_together() -> None:
    net = cluster()
    net.elect("a")
    net.sent.clear()
    for n in range(50):
        net["a"].node.propose(b"%d" % n)
    net.settle()
    assert len(of_type(net.sent, APP)) == 4  # per follower: the entries, then the commit index
