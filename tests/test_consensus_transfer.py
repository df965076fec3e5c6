"""Handing leadership over."""

import pytest

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import ProposalDropped, TransferRefused
from consensus.messages import MessageType
from consensus.node import Role
from tests.raft_cluster import ELECTION, Cluster, cluster, lone, of_type

TIMEOUT_NOW = MessageType.TIMEOUT_NOW


def elected(ids: str = "abc", learners: str = "") -> Cluster:
    net = cluster(ids, learners)
    net.elect("a")
    return net


@pytest.mark.parametrize("asked", ["a", "b", "c"])
def test_anybody_may_ask(asked: str) -> None:
    net = elected()
    net[asked].node.transfer_leader("c")
    net.settle()
    assert net.leaders() == ["c"]
    assert {net[id].node.status().leader for id in "abc"} == {"c"}


def test_a_target_that_lags_is_brought_up_to_date_first() -> None:
    net = elected()
    net.cut = {"c"}
    for n in range(5):
        net.propose("a", b"%d" % n)
    net.cut = set()
    net["a"].node.transfer_leader("c")
    assert not of_type(net["a"].drain(), TIMEOUT_NOW)
    net.tick(4)
    assert net.leaders() == ["c"]
    assert len(net["c"].data) == 5


def test_a_lagging_target_is_asked_at_once() -> None:
    net = elected()
    net.cut = {"c"}
    net.propose("a", b"lost on the way to c")
    net.cut = set()
    net["a"].node.transfer_leader("c")
    net.settle()
    assert net.leaders() == ["c"]


def test_proposals_wait_while_leadership_moves() -> None:
    net = elected()
    net.cut = {"c"}
    net.propose("a", b"x")
    net["a"].node.transfer_leader("c")
    assert net["a"].node.status().lead_transferee == "c"
    with pytest.raises(ProposalDropped, match="on its way to c"):
        net["a"].node.propose(b"y")
    with pytest.raises(ProposalDropped, match="on its way to c"):
        net["a"].node.propose_conf_change(ConfChange.one(ConfChangeType.ADD_LEARNER, "d"))


def test_a_transfer_that_does_not_happen_is_given_up_after_an_election_timeout() -> None:
    net = elected()
    net.cut = {"c"}
    net["a"].node.transfer_leader("c")
    net.tick(ELECTION)
    assert net["a"].node.status().lead_transferee is None
    net.propose("a", b"x")
    assert net["b"].data == [b"x"]


def test_another_target_replaces_the_first() -> None:
    net = elected()
    net.cut = {"c"}
    net.propose("a", b"x")
    net["a"].node.transfer_leader("c")
    net["a"].node.transfer_leader("b")
    net.settle()
    assert net.leaders() == ["b"]


def test_a_transfer_to_itself_cancels() -> None:
    net = elected()
    net.cut = {"c"}
    net.propose("a", b"x")
    net["a"].node.transfer_leader("c")
    net["a"].node.transfer_leader("a")
    assert net["a"].node.status().lead_transferee is None


@pytest.mark.parametrize("target", ["d", "x"])
def test_only_voters_can_take_over(target: str) -> None:
    net = elected(learners="d")
    with pytest.raises(TransferRefused, match=f"{target} is not a voter"):
        net["a"].node.transfer_leader(target)
    net["b"].node.transfer_leader(target)  # the leader ignores it
    net.settle()
    assert (net.leaders(), net["a"].node.status().lead_transferee) == (["a"], None)


def test_without_a_leader_it_is_refused() -> None:
    with pytest.raises(TransferRefused, match="no leader"):
        lone().node.transfer_leader("b")


def test_removing_the_target_ends_the_transfer() -> None:
    net = elected()
    net["a"].node.propose_conf_change(ConfChange.one(ConfChangeType.REMOVE, "c"))
    net.cut = {"c"}
    net["a"].node.transfer_leader("c")
    net.settle()
    assert net["a"].node.status().lead_transferee is None


def test_orders_of_the_past_are_ignored() -> None:
    peer = lone(term=5)
    assert peer.step(TIMEOUT_NOW, "b", 4) == []
    peer.step(MessageType.HEARTBEAT, "b", 5)
    assert peer.step(TIMEOUT_NOW, "c", 5) == []  # c does not lead
    assert peer.node.status().role is Role.FOLLOWER


def test_a_learner_does_not_obey_timeout_now() -> None:
    peer = lone("d", learners="d", term=5)
    assert peer.step(TIMEOUT_NOW, "b", 5) == []
    assert peer.node.status().term == 5
