"""One test per claim of Ongaro's dissertation that goes beyond the paper, by its section."""

import pytest

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import ProposalDropped
from consensus.messages import Message, MessageType
from consensus.node import ReadState, Role
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, cluster, lone, of_type

APP, APP_RESP = MessageType.APP, MessageType.APP_RESP
VOTE, VOTE_RESP = MessageType.VOTE, MessageType.VOTE_RESP
TIMEOUT_NOW = MessageType.TIMEOUT_NOW
ADD_VOTER, ADD_LEARNER = ConfChangeType.ADD_VOTER, ConfChangeType.ADD_LEARNER
REMOVE = ConfChangeType.REMOVE


def elected(ids: str = "abc", learners: str = "") -> Cluster:
    net = cluster(ids, learners)
    net.elect("a")
    return net


# -- §3.10 Leadership transfer ---------------------------------------------------------------------


def test_d3_10_the_leader_stops_taking_proposals() -> None:
    net = elected()
    net.cut = {"c"}
    net["a"].node.propose(b"x")
    net["a"].node.transfer_leader("c")
    with pytest.raises(ProposalDropped, match="on its way to c"):
        net["a"].node.propose(b"y")


def test_d3_10_it_sends_the_target_what_it_lacks_and_only_then_the_order_to_stand() -> None:
    net = elected()
    net.cut = {"c"}
    net.propose("a", b"x")
    net.cut = set()
    net.sent.clear()
    net["a"].node.transfer_leader("c")
    net.settle()
    net.tick(HEARTBEAT)
    to_target = [m.type for m in net.sent if m.to == "c" and m.type in (APP, TIMEOUT_NOW)]
    assert to_target[0] is APP
    assert to_target.count(TIMEOUT_NOW) == 1
    assert (net.leaders(), net["c"].data) == (["c"], [b"x"])


def test_d3_10_the_target_starts_an_election_as_if_its_timer_had_run_out() -> None:
    net = elected()
    net["c"].node.step(Message(TIMEOUT_NOW, "c", "a", 1))
    sent = of_type(net["c"].drain(), VOTE)  # no pre-vote: the old leader's lease does not count
    assert {(m.to, m.term) for m in sent} == {("a", 2), ("b", 2)}


def test_d3_10_the_leader_goes_on_if_the_target_did_not_take_over_in_an_election_timeout() -> None:
    net = elected()
    net.drop = lambda m: m.type is TIMEOUT_NOW
    net["a"].node.transfer_leader("c")
    net.tick(ELECTION)
    net.propose("a", b"x")
    assert net["c"].data == [b"x"]


def test_d3_10_an_order_that_comes_late_does_no_harm() -> None:
    net = elected()
    orders: list[Message] = []
    net.drop = lambda m: m.type is TIMEOUT_NOW and not orders.append(m)
    net["a"].node.transfer_leader("c")
    net.tick(ELECTION)
    net.drop = lambda m: False
    net.propose("a", b"x")
    net.elect("b")
    net.deliver(orders)  # of a term that is over
    net.settle()
    assert (net.leaders(), net["c"].data) == (["b"], [b"x"])


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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((ADD_VOTER, "e"), (REMOVE, "a")),
        ((ADD_VOTER, "e"), (ADD_VOTER, "f")),
        ((REMOVE, "b"), (REMOVE, "a")),
    ],
    ids=["add and remove", "two adds", "two removes"],
)
def test_d4_1_the_bug_of_2015_two_changes_by_two_leaders_whose_majorities_do_not_meet(
    first: tuple[ConfChangeType, str], second: tuple[ConfChangeType, str]
) -> None:
    """a proposes `first`, which reaches e alone. b leads and wants `second`; then a comes back."""
    net = cluster("abcd")
    for id in "ef":
        net.peers[id] = lone(id, voters="abcd")
    net.elect("a")
    net["a"].node.propose_conf_change(ConfChange.one(*first))
    net.cut = {"b", "c", "d", "f"}
    net.settle()
    net.cut = {"a", "e", "f"}
    for id in "bcd":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    while net.role("b") is not Role.LEADER:  # before anything of its own is committed
        net.deliver([m for id in "bcd" for m in net[id].drain() if m.type is not APP])
    with pytest.raises(ProposalDropped, match=r"not applied yet|own term"):
        net["b"].node.propose_conf_change(ConfChange.one(*second))
    net.tick(2 * HEARTBEAT, only="bcd")
    net["b"].node.propose_conf_change(ConfChange.one(*second))
    net.settle()  # committed by b, c and d: a change counts from when it is applied
    committed = net["b"].node.status().commit
    net.tick(ELECTION + 1, only="a")
    net.cut = {"b", "c"}
    for _ in range(3):
        for id in "ade":
            net[id].node.forget_leader()
        net["a"].node.campaign()
        net.settle()
    assert net.role("a") is not Role.LEADER
    net.cut = set()
    net.tick(4 * ELECTION)
    (leader,) = net.leaders()
    log = net[leader].storage.entries(1, committed + 1, 1 << 30)
    assert ConfChange.decode(log[-1].data) == ConfChange.one(*second)


def test_d4_2_1_a_new_server_gets_the_log_before_it_counts() -> None:
    net = elected()
    for n in range(10):
        net.propose("a", b"%d" % n)
    net.peers["d"] = lone("d", voters="abc")
    net.change("a", ADD_LEARNER, "d")
    assert len(net["d"].data) == 10
    net.cut = {"b", "c"}
    net.propose("a", b"x")
    assert b"x" not in net["a"].data
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    net.change("a", ADD_VOTER, "d")
    net.cut = {"b"}
    net.propose("a", b"y")
    assert net["d"].data[-1] == b"y"


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


def test_d4_3_a_joint_change_goes_through_both_and_ends_in_the_new_one() -> None:
    net = elected("abc", "de")
    steps = ConfChange((*ConfChange.one(ADD_VOTER, "d").steps, *ConfChange.one(REMOVE, "b").steps))
    net["a"].node.propose_conf_change(steps)
    halves = set()
    while queue := [m for peer in net.peers.values() for m in peer.drain()]:
        status = net["c"].node.status()
        halves.add((status.voters_outgoing, status.voters))
        net.deliver(queue)
    old, new = ("a", "b", "c"), ("a", "c", "d")
    assert {((), old), (old, new)} <= halves
    status = net["c"].node.status()
    assert (status.voters_outgoing, status.voters) == ((), new)


def test_d6_2_a_leader_without_a_quorum_steps_down() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"b", "c"}
    net.tick(ELECTION + 1, only="a")
    assert (net.role("a"), net["a"].node.status().has_quorum_contact) == (Role.FOLLOWER, False)


def test_d6_4_a_read_waits_for_a_commit_of_the_term_then_a_round_then_the_state() -> None:
    net = elected()
    net.propose("a", b"x")
    net.drop = lambda m: m.type is APP_RESP
    net.elect("b")
    net["b"].node.read_index(b"r")
    net.settle()
    assert net["b"].reads == []  # 1: nothing of its term is committed
    net.drop = lambda m: m.type is MessageType.HEARTBEAT_RESP and m.context != b""
    net.tick(2 * HEARTBEAT)
    assert (net["b"].node.status().commit, net["b"].reads) == (3, [])  # 3: nobody confirmed yet
    net.drop = lambda m: False
    net.tick(HEARTBEAT)
    assert net["b"].reads == [ReadState(3, b"r")]  # 2 and 4: readable once 3 is applied


def test_d6_4_followers_read_with_an_index_from_the_leader() -> None:
    net = elected()
    net.propose("a", b"x")
    net["c"].node.read_index(b"r")
    net.settle()
    assert net["c"].reads == [ReadState(2, b"r")]


def test_d9_6_pre_vote_a_partitioned_peer_does_not_raise_the_term() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    net.tick(10 * ELECTION)
    assert net["c"].node.status().term == 1
    net.cut = set()
    net.tick(2 * ELECTION)
    assert (net.leaders(), net["a"].node.status().term) == (["a"], 1)


def test_d9_6_a_pre_vote_needs_a_log_as_complete_and_no_leader_in_sight() -> None:
    peer = lone(terms=[1, 1], term=1)
    ask = {"index": 2, "log_term": 1}
    for _ in range(ELECTION):
        peer.node.tick()
    peer.drain()
    (answer,) = peer.step(MessageType.PRE_VOTE, "b", 9, index=1, log_term=1)
    assert answer.reject
    (answer,) = peer.step(MessageType.PRE_VOTE, "b", 9, **ask)
    assert not answer.reject
    peer.step(MessageType.HEARTBEAT, "c", 1)
    assert peer.step(MessageType.PRE_VOTE, "b", 9, **ask) == []


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
