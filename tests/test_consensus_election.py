"""Who may become leader, and when: pre-vote, leases, check-quorum, and a disk that is slow."""

import pytest

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import SafetyViolation
from consensus.messages import CAMPAIGN_TRANSFER, Entry, EntryType, HardState, Message, MessageType
from consensus.node import Role
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, Cluster, Peer, base, cluster, lone, of_type

VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP
PRE_VOTE, PRE_VOTE_RESP = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP
APP, HEARTBEAT = MessageType.APP, MessageType.HEARTBEAT


def test_own_vote_counts_only_when_it_is_durable() -> None:
    net = cluster()
    net["a"].hold_disk = True
    net["a"].node.campaign()
    net.settle()
    assert net.role("a") is Role.CANDIDATE
    assert not of_type(net.sent, VOTE)  # the request would promise a term that a crash forgets
    net.deliver(net["a"].release())
    net.settle()
    assert net.leaders() == ["a"]


def test_a_lone_voter_leads_only_when_its_vote_is_durable() -> None:
    peer = lone(voters="a")
    peer.hold_disk = True
    peer.node.campaign()
    peer.drain()
    assert peer.node.status().role is Role.CANDIDATE
    peer.release()
    assert peer.node.status().role is Role.LEADER


def test_a_granted_vote_leaves_only_after_it_is_durable() -> None:
    peer = lone(term=1)
    peer.hold_disk = True
    assert peer.step(VOTE, "b", 2) == []
    (answer,) = peer.release()
    assert (answer.type, answer.reject) == (VOTE_RESP, False)
    assert peer.storage.hard_state.vote == "b"


def test_a_vote_survives_a_crash() -> None:
    net = cluster()
    net["a"].step(VOTE, "b", 2)
    (answer,) = net.restart("a").step(VOTE, "c", 2)
    assert answer.reject


# -- pre-vote --------------------------------------------------------------------------------------


def test_pre_vote_changes_neither_term_nor_vote_nor_clock() -> None:
    peer = lone(terms=[1], term=1)
    for _ in range(ELECTION - 1):
        peer.node.tick()
    (answer,) = peer.step(PRE_VOTE, "b", 2, index=1, log_term=1)
    assert (answer.type, answer.reject, answer.term) == (PRE_VOTE_RESP, False, 2)
    assert peer.node.status().term == 1
    assert peer.storage.hard_state == HardState(1, None, 0)
    for _ in range(ELECTION):
        peer.node.tick()
    assert peer.node.status().role is Role.PRE_CANDIDATE  # the request did not put its own off


@pytest.mark.parametrize(
    ("term", "index", "log_term", "rejected", "answer_term"),
    [
        (4, 2, 2, False, 4),
        (4, 1, 2, True, 3),  # shorter log
        (4, 9, 1, True, 3),  # older log
        (3, 2, 2, False, 3),
        (2, 2, 2, True, 3),  # asks for the past: learns the term
    ],
)
def test_pre_vote_answers(
    term: int, index: int, log_term: int, rejected: bool, answer_term: int
) -> None:
    peer = lone(terms=[1, 2], term=3)
    (answer,) = peer.step(PRE_VOTE, "b", term, index=index, log_term=log_term)
    assert (answer.reject, answer.term) == (rejected, answer_term)


def test_a_pre_vote_that_is_lost_leaves_the_term() -> None:
    net = Cluster([lone("a", terms=[1], term=2), *(lone(i, terms=[1, 2]) for i in "bc")])
    net["a"].node.campaign()
    net.settle()
    assert (net.role("a"), net["a"].node.status().term) == (Role.FOLLOWER, 2)


def test_pre_votes_of_another_term_are_not_counted() -> None:
    peer = lone(term=5)
    peer.node.campaign()
    peer.drain()
    peer.step(PRE_VOTE_RESP, "b", 5)  # granted for a campaign of long ago
    assert peer.node.status().role is Role.PRE_CANDIDATE
    peer.step(PRE_VOTE_RESP, "b", 6)
    assert peer.node.status().role is Role.CANDIDATE


def test_votes_of_an_older_term_are_not_counted() -> None:
    peer = lone(term=5, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    peer.step(VOTE_RESP, "b", 5)  # Xraft#33
    assert peer.node.status().role is Role.CANDIDATE


def test_pre_vote_grants_are_no_votes() -> None:
    peer = lone(term=5, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    peer.step(PRE_VOTE_RESP, "b", 6)
    assert peer.node.status().role is Role.CANDIDATE


def test_strangers_do_not_count() -> None:
    peer = lone(voters="abc", learners="d", term=1, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    for stranger in ("d", "x", "y"):
        peer.step(VOTE_RESP, stranger, 2)
    assert peer.node.status().role is Role.CANDIDATE


# -- leases and check-quorum -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_requests_are_ignored_while_a_leader_is_heard(kind: MessageType) -> None:
    peer = lone(term=1)
    peer.step(HEARTBEAT, "b", 1)
    assert peer.step(kind, "c", 2) == []
    assert peer.node.status().term == 1
    for _ in range(ELECTION):
        peer.node.tick()
    assert peer.step(kind, "c", 2)


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_a_leader_that_asks_for_votes_leads_no_more(kind: MessageType) -> None:
    """It was deposed by a candidate of a newer term who could not win: no need to wait for the end
    of the lease."""
    peer = lone(term=1)
    peer.step(HEARTBEAT, "b", 1)
    (answer,) = peer.step(kind, "b", 3)
    assert not answer.reject


@pytest.mark.parametrize("kind", [VOTE, PRE_VOTE])
def test_forget_leader_lifts_the_lease_and_a_heartbeat_restores_it(kind: MessageType) -> None:
    peer = lone(term=1)
    peer.step(HEARTBEAT, "b", 1)
    assert peer.node.status().has_quorum_contact
    peer.node.forget_leader()
    assert not peer.node.status().has_quorum_contact
    peer.step(HEARTBEAT, "b", 1)
    assert peer.step(kind, "c", 2) == []
    peer.node.forget_leader()
    (answer,) = peer.step(kind, "c", 2)
    assert not answer.reject


def test_forget_leader_means_nothing_to_the_leader() -> None:
    net = cluster()
    net.elect("a")
    net["a"].node.forget_leader()
    assert net["a"].node.status().leader == "a"


def test_a_leaders_death_that_all_noticed_costs_no_timeout() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"a"}
    for id in "bc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    assert net.role("b") is Role.LEADER


def test_campaigning_again_repeats_the_request() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"a"}
    net["b"].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    assert net.role("b") is Role.PRE_CANDIDATE  # c still believes in a
    net["c"].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    assert net.role("b") is Role.LEADER


def test_a_vote_that_the_leader_ordered_passes_the_lease() -> None:
    peer = lone(term=1)
    peer.step(HEARTBEAT, "b", 1)
    (answer,) = peer.step(VOTE, "c", 2, context=CAMPAIGN_TRANSFER)
    assert not answer.reject


def test_a_leader_that_half_the_cluster_hears_stays() -> None:
    net = cluster("abcde")
    net.elect("a")
    net.cut = {"d", "e"}
    net.tick(5 * ELECTION)
    assert net.leaders() == ["a"]
    assert net["a"].node.status().has_quorum_contact
    active = {i: p.recent_active for i, p in net["a"].node.status().progress.items()}
    assert active == {"a": True, "b": True, "c": True, "d": False, "e": False}


def test_learners_do_not_keep_a_leader_in_office() -> None:
    net = cluster("abc", learners="de")
    net.elect("a")
    net.cut = {"b", "c"}
    net.tick(ELECTION + 1, only="a")
    assert net.role("a") is Role.FOLLOWER


def test_an_old_leader_learns_the_new_term_though_its_requests_are_ignored() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"a"}
    for id in "bc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    net.cut = set()
    net.tick(2, only="a")
    assert (net.role("a"), net["a"].node.status().term) == (Role.FOLLOWER, 2)
    assert net.leaders() == ["b"]


def test_a_peer_with_a_higher_term_comes_back_without_a_stuck_cluster() -> None:
    net = Cluster([lone("a"), lone("b"), lone("c", term=9)])
    net.cut = {"c"}
    net.elect("a")
    net.cut = set()
    net.tick(6 * ELECTION)
    (leader,) = net.leaders()
    assert net[leader].node.status().term >= 9


# -- who may not stand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peer",
    [
        lone("d", voters="abc", learners="d"),
        lone("d", voters="abc"),
        lone("a", voters=""),
    ],
    ids=["learner", "stranger", "joiner"],
)
def test_only_voters_stand(peer: Peer) -> None:
    for _ in range(5 * ELECTION):
        peer.node.tick()
    peer.node.campaign()
    assert peer.drain() == []
    assert peer.node.status().term == 0


def test_nobody_stands_with_a_committed_change_that_is_not_applied() -> None:
    change = ConfChange.one(ConfChangeType.ADD_VOTER, "d").encode()
    entries = [Entry(1, 1, EntryType.CONF_CHANGE, change)]
    storage = MemoryStorage(HardState(1, None, 1), entries, base("abc"))
    peer = Peer("a", storage)
    ready = peer.node.ready()
    peer.node.campaign()
    assert peer.node.status().role is Role.FOLLOWER
    peer.finish(ready)
    peer.node.campaign()
    assert peer.node.status().role is Role.PRE_CANDIDATE
    assert peer.node.status().voters == ("a", "b", "c", "d")


# -- contradictions stop the peer ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [APP, HEARTBEAT])
def test_a_second_leader_in_a_term_is_no_leader(kind: MessageType) -> None:
    peer = lone(term=1)
    peer.step(HEARTBEAT, "b", 1)
    with pytest.raises(SafetyViolation, match="both lead term 1"):
        peer.step(kind, "c", 1)


def test_messages_for_somebody_else_are_ignored() -> None:
    net = cluster()
    net["a"].step(VOTE, "b", 7)
    assert net["c"].drain() == []
    net["a"].node.step(Message(VOTE, "c", "b", 9))
    assert net["a"].drain() == []
    assert net["a"].node.status().term == 7


def test_nobody_may_speak_in_a_peers_own_name() -> None:
    peer = lone(voters="ab", term=1, pre_vote=False)
    peer.hold_disk = True
    peer.node.campaign()
    peer.drain()
    peer.step(VOTE_RESP, "b", 2)
    peer.step(VOTE_RESP, "a", 2)
    assert peer.node.status().role is Role.CANDIDATE
