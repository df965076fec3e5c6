"""One test per claim of the Raft paper (extended version), by section; §6 to §8 at the end."""

from itertools import combinations, pairwise
from typing import Any

import pytest

from consensus.changes import ConfChange, ConfState, SnapshotMeta
from consensus.errors import ProposalDropped
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import Role
from consensus.storage import MemoryStorage
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


def test_5_2_a_candidate_votes_for_itself_and_asks_all_others_at_once() -> None:
    peer = lone(voters="abcde", term=7, pre_vote=False)
    peer.node.campaign()
    asked = of_type(peer.drain(), VOTE)
    assert (peer.storage.hard_state.term, peer.storage.hard_state.vote) == (8, "a")
    assert {(m.to, m.term) for m in asked} == {(id, 8) for id in "bcde"}


def test_5_2_followers_issue_no_requests() -> None:
    peer = lone(term=1)
    peer.step(APP, "b", 1, entries=(Entry(1, 1),))
    for _ in range(ELECTION - 1):
        peer.node.tick()
    assert peer.drain() == []


def test_5_2_a_candidate_refuses_a_leader_of_an_older_term_and_goes_on() -> None:
    peer = in_role(Role.CANDIDATE)
    (answer,) = peer.step(APP, "b", 1)
    assert (answer.term, peer.node.status().role) == (2, Role.CANDIDATE)


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


def test_5_3_appends_are_repeated_until_everybody_has_everything() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.propose("a", b"x")  # the client has its answer long before c has the entry
    net.tick(3 * ELECTION)
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net["c"].data == [b"x"]


def test_5_3_heartbeats_tell_what_is_committed_but_no_more_than_the_follower_holds() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.propose("a", b"x")
    net.cut = set()
    net.sent.clear()
    for _ in range(HEARTBEAT):
        net["a"].node.tick()
    beats = {m.to: m.commit for m in of_type(net["a"].drain(), MessageType.HEARTBEAT)}
    assert beats == {"b": 2, "c": 1}


def test_5_3_a_new_leader_begins_with_the_entry_after_its_last() -> None:
    peer = lone(terms=[1, 1, 2], term=2, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    sent = peer.step(VOTE_RESP, "b", 3)
    assert {(m.index, m.log_term, len(m.entries)) for m in of_type(sent, APP)} == {(3, 2, 1)}


def test_5_3_after_a_rejection_it_goes_back_and_tries_again() -> None:
    peer = lone(terms=[1, 1, 2], term=2, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    peer.step(VOTE_RESP, "b", 3)
    (retry,) = peer.step(APP_RESP, "b", 3, index=3, reject=True, reject_hint=1, log_term=1)
    assert (retry.index, [e.index for e in retry.entries]) == (1, [2, 3, 4])


def test_figure_2_commit_is_the_leaders_but_not_beyond_the_last_new_entry() -> None:
    """An entry of this log that the leader did not confirm yet may be another one there."""
    peer = lone(terms=[1, 1, 1], term=1)
    peer.step(APP, "b", 2, index=1, log_term=1, commit=3)
    assert peer.node.status().commit == 1
    peer.step(APP, "b", 2, index=1, log_term=1, commit=3, entries=(Entry(2, 1),))
    assert peer.node.status().commit == 2
    peer.step(APP, "b", 2, index=2, log_term=1, commit=1)
    assert peer.node.status().commit == 2


def test_figure_2_what_a_leader_knew_of_others_is_forgotten_with_its_term() -> None:
    net = cluster()
    net.elect("a")
    net.propose("a", b"x")
    net.elect("b")
    assert not net["a"].node.status().progress
    assert net["b"].node.status().progress["c"].match == 3


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


def test_5_4_2_figure_8_an_old_leaders_entry_is_never_committed_by_counting() -> None:
    """The figure's five servers: (a) to (d), where S5 overwrites what a majority held."""
    net = Cluster([
        lone("1", voters="12345", terms=[1, 2], term=2), lone("2", voters="12345", terms=[1, 2]),
        lone("3", voters="12345", terms=[1]), lone("4", voters="12345", terms=[1]),
        lone("5", voters="12345", terms=[1, 3], term=3),
    ])  # fmt: skip
    net.restart("1", pre_vote=False)
    net.cut, net.drop = {"5"}, lambda m: m.type is APP
    for _ in range(2):  # the others are in term 3, so the first attempt tells it the term
        net["1"].node.campaign()
        net.settle()
    assert net.leaders() == ["1"]
    term = net["1"].node.status().term
    for id in "23":  # (c): entry 2 reaches a majority, the new leader's own entry does not
        fields = {"index": 1, "log_term": 1, "entries": (Entry(2, 2, EntryType.NORMAL, b"2"),)}
        net.deliver(net[id].step(APP, "1", term, **fields))
    net["1"].drain()
    assert [net[id].terms[:2] for id in "123"] == [[1, 2]] * 3
    assert net["1"].node.status().commit == 0
    net.cut, net.drop = {"1"}, lambda m: False
    for _ in range(2):
        for id in "2345":
            net[id].node.forget_leader()
        net["5"].node.campaign()
        net.settle()
    assert net.role("5") is Role.LEADER  # (d)
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert {tuple(net[id].terms[:2]) for id in "12345"} == {(1, 3)}


def test_5_4_2_figure_8_e_an_own_entry_on_a_majority_settles_the_older_ones() -> None:
    net = Cluster([
        lone("1", voters="12345", terms=[1, 2], term=3), lone("2", voters="12345", terms=[1, 2]),
        lone("3", voters="12345", terms=[1]), lone("4", voters="12345", terms=[1]),
        lone("5", voters="12345", terms=[1, 3], term=3),
    ])  # fmt: skip
    net.cut = {"4", "5"}
    net.elect("1")
    assert net["1"].node.status().commit == 3
    net.cut = {"1"}
    for id in "2345":
        net[id].node.forget_leader()
    for _ in range(3):
        net["5"].node.campaign()
        net.settle()
    assert net.role("5") is not Role.LEADER


def test_5_4_3_who_wins_an_election_holds_everything_committed() -> None:
    """Every voter that a majority may elect, after each way to reach a majority with one entry."""
    for holders in combinations("bcde", 2):
        net = cluster("abcde")
        net.elect("a")
        net.cut = set("bcde") - set(holders)
        net.propose("a", b"x")
        assert net["a"].data == [b"x"]
        net.cut = {"a"}
        for id in "bcde":
            for other in "bcde":
                net[other].node.forget_leader()
            net[id].node.campaign()
            net.settle()
            assert (net.role(id) is Role.LEADER) == (b"x" in [e.data for e in log_of(net[id])])


def log_of(peer: Peer) -> list[Entry]:
    return peer.storage.entries(1, peer.storage.last_index() + 1, 1 << 30)


def test_5_4_a_leader_never_overwrites_its_own_log() -> None:
    net = Cluster([lone("a", terms=[1, 2], term=2), lone("b", terms=[1]), lone("c", terms=[1])])
    net.elect("a")
    logs = [net["a"].terms]
    for _ in range(5):
        net.propose("a", b"x")
        logs.append(net["a"].terms)
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(logs))


# -- §5.5 Follower and candidate crashes, §5.6 Timing ----------------------------------------------


def test_5_5_repeating_an_append_changes_nothing() -> None:
    peer = lone(term=1)
    fields = {"entries": (Entry(1, 1), Entry(2, 1))}
    first = peer.step(APP, "b", 1, **fields)
    peer.step(APP, "b", 1, index=2, log_term=1, entries=(Entry(3, 1),))
    assert peer.step(APP, "b", 1, **fields) == first
    assert peer.terms == [1, 1, 1]


def test_5_5_a_crashed_follower_is_retried_until_it_is_back() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.propose("a", b"x")
    net.restart("c")
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net["c"].data == [b"x"]


def test_5_5_a_repeated_vote_request_is_granted_again() -> None:
    peer = lone(term=1)
    first = peer.step(VOTE, "b", 2)
    assert peer.step(VOTE, "b", 2) == first
    assert [m.reject for m in first] == [False]


def test_5_6_a_leader_speaks_several_times_within_an_election_timeout() -> None:
    with pytest.raises(ValueError, match="must be greater than heartbeat_ticks"):
        lone(heartbeat_ticks=ELECTION)


# -- §6 Cluster membership changes -----------------------------------------------------------------


def changing(old: str, new: str) -> Cluster:
    """Peers that are inside the change from `old` to `new`."""
    conf = ConfState(tuple(new), (), tuple(old))
    snapshot = SnapshotMeta(0, 0, conf)
    ids = sorted({*old, *new})
    return Cluster(Peer(id, MemoryStorage(snapshot=snapshot)) for id in ids)


def test_6_entries_go_to_all_servers_of_both_configurations() -> None:
    net = changing("abc", "cde")
    net.elect("a")
    net.propose("a", b"x")
    assert {tuple(net[id].data) for id in "abcde"} == {(b"x",)}


@pytest.mark.parametrize("leader", ["a", "c", "e"])
def test_6_a_server_of_either_configuration_may_lead(leader: str) -> None:
    net = changing("abc", "cde")
    net.elect(leader)


@pytest.mark.parametrize(
    ("gone", "agreed"), [("b", True), ("d", True), ("ab", False), ("de", False)]
)
def test_6_agreement_needs_a_majority_of_each_configuration(gone: str, agreed: bool) -> None:
    net = changing("abc", "cde")
    net.elect("c")
    net.cut = set(gone)
    net.propose("c", b"x")
    assert (net["c"].data == [b"x"]) == agreed


def test_6_new_servers_catch_up_without_a_vote_first() -> None:
    net = cluster(learners="d")
    net.elect("a")
    net.cut = {"b", "c"}
    net.propose("a", b"x")
    assert (net["d"].storage.last_index(), net["a"].data) == (2, [])


def test_6_a_leader_that_is_not_part_of_the_new_configuration_steps_down_after_it() -> None:
    net = changing("abc", "bcd")
    net.elect("a")
    assert net.role("a") is Role.LEADER  # it counts in the old half as yet
    net["a"].node.propose_conf_change(ConfChange())
    net.settle()
    assert net.role("a") is Role.FOLLOWER
    assert net["b"].node.status().voters == ("b", "c", "d")


def test_6_vote_requests_within_the_minimum_election_timeout_are_disregarded() -> None:
    peer = lone(term=1)
    peer.step(MessageType.HEARTBEAT, "b", 1)
    assert peer.step(VOTE, "c", 5) == []
    assert peer.node.status().term == 1
    for _ in range(ELECTION):
        peer.node.tick()
    (answer,) = of_type(peer.step(VOTE, "c", 5), VOTE_RESP)
    assert not answer.reject


# -- §7 Log compaction -----------------------------------------------------------------------------


def test_7_each_server_takes_snapshots_on_its_own() -> None:
    net = cluster()
    net.elect("a")
    net.propose("a", b"x")
    net["b"].compact()
    net.propose("a", b"y")
    assert (net["b"].data, net["b"].node.status().first_index) == ([b"x", b"y"], 3)
    assert net["a"].node.status().first_index == 1


def test_7_the_first_append_after_a_snapshot_is_checked_against_its_end() -> None:
    peer = lone(terms=[1, 1, 2], commit=3)
    peer.storage.compact(3)
    (answer,) = peer.step(APP, "b", 3, index=3, log_term=2, entries=(Entry(4, 3),))
    assert (answer.reject, answer.index) == (False, 4)


def test_7_the_leader_sends_a_snapshot_where_it_discarded_the_next_entry() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.propose("a", b"x")
    meta = net["a"].compact()
    net.cut = set()
    net.tick(HEARTBEAT)
    assert [m.snapshot for m in of_type(net.sent, MessageType.SNAP)] == [meta]
    assert net["c"].restored == [meta]


@pytest.mark.parametrize(("term", "kept"), [(2, [1, 1, 2, 2]), (3, [])])
def test_7_what_follows_a_snapshot_is_kept_if_the_log_agrees_with_it_else_all_goes(
    term: int, kept: list[int]
) -> None:
    peer = lone(terms=[1, 1, 2, 2], commit=1)
    conf = ConfState(("a", "b", "c"))
    peer.step(MessageType.SNAP, "b", 4, snapshot=SnapshotMeta(3, term, conf))
    assert peer.terms == kept
    assert peer.node.status().commit == 3


def test_7_a_snapshot_brings_the_configuration_of_its_end() -> None:
    peer = lone("z", voters="")
    conf = ConfState(("a", "b"), ("z",))
    peer.step(MessageType.SNAP, "b", 4, snapshot=SnapshotMeta(3, 2, conf))
    status = peer.node.status()
    assert (status.voters, status.learners) == (("a", "b"), ("z",))


# -- §8 Client interaction -------------------------------------------------------------------------


def test_8_a_new_leader_commits_a_no_op_first() -> None:
    net = cluster()
    net.elect("a")
    assert [(e.index, e.term, e.data) for e in net["b"].applied] == [(1, 1, b"")]


def test_8_a_read_waits_for_the_no_op_and_for_a_majority_that_still_follows() -> None:
    net = cluster()
    net.drop = lambda m: m.type is APP_RESP
    net.elect("a")
    net["a"].node.read_index(b"r")
    net.settle()
    assert net["a"].reads == []
    net.drop = lambda m: m.type is MessageType.HEARTBEAT_RESP
    net["a"].node.report_unreachable("b")
    net.tick(HEARTBEAT)
    net.drop = lambda m: m.type is MessageType.HEARTBEAT_RESP and m.context != b""
    net.tick(HEARTBEAT)
    assert (net["a"].node.status().commit, net["a"].reads) == (1, [])
    net.drop = lambda m: False
    net.tick(HEARTBEAT)
    assert [(s.index, s.context) for s in net["a"].reads] == [(1, b"r")]


def test_8_a_proposal_elsewhere_is_refused_and_names_no_wrong_leader() -> None:
    net = cluster()
    net.elect("a")
    with pytest.raises(ProposalDropped, match="b is not the leader"):
        net["b"].node.propose(b"x")
    assert net["b"].node.status().leader == "a"
