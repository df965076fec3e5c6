"""Linearizable reads without a log entry: confirmed by a quorum, on any peer, and never twice."""

from typing import Any

import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.errors import ProposalDropped
from consensus.messages import Message, MessageType
from consensus.node import ReadState, Role
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, cluster, lone, of_type

BEAT, BEAT_RESP = MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP
READ, READ_RESP = MessageType.READ_INDEX, MessageType.READ_INDEX_RESP


def elected(ids: str = "abc", learners: str = "", **options: Any) -> Cluster:
    net = cluster(ids, learners, **options)
    net.elect("a")
    net.sent.clear()
    return net


def read(net: Cluster, id: str, context: bytes = b"r") -> list[ReadState]:
    net[id].node.read_index(context)
    net.settle()
    return net[id].reads


@pytest.mark.parametrize("id", ["a", "b", "d"])
def test_leader_follower_and_learner_read_what_is_committed_when_they_ask(id: str) -> None:
    net = elected(learners="d")
    net.propose("a", b"x")
    assert read(net, id) == [ReadState(2, b"r")]
    assert net["a"].storage.last_index() == 2  # no entry was written


def test_a_sole_voter_answers_itself() -> None:
    net = elected("a", learners="d")
    assert read(net, "a") == [ReadState(1, b"r")]
    assert not of_type(net.sent, BEAT)
    assert read(net, "d") == [ReadState(1, b"r")]


def test_without_a_leader_a_read_is_refused() -> None:
    with pytest.raises(ProposalDropped, match="no leader is known"):
        lone().node.read_index(b"r")


@pytest.mark.parametrize("size", [3, 5])
def test_a_majority_must_answer_after_the_read_was_asked(size: int) -> None:
    ids = "abcde"[:size]
    for answers in range(size):
        net = elected(ids)
        net.drop = lambda m, limit=ids[1 : 1 + answers]: (
            m.type is BEAT_RESP and m.sender not in limit
        )
        assert bool(read(net, "a")) == (answers + 1 > size // 2)


def test_learners_do_not_confirm() -> None:
    net = elected("abc", learners="de")
    net.cut = {"b", "c"}
    assert read(net, "a") == []
    net["a"].step(BEAT_RESP, "d", 1, context=net["a"].node._raft.reads.newest_key())
    assert net["a"].reads == []


def test_reads_that_are_asked_together_share_a_round() -> None:
    net = elected()
    for n in range(20):
        net["a"].node.read_index(b"%d" % n)
        net["b"].node.read_index(b"%d" % n)
    net.settle()
    assert [s.context for s in net["a"].reads] == [b"%d" % n for n in range(20)]
    assert [s.context for s in net["b"].reads] == [b"%d" % n for n in range(20)]
    assert (len(of_type(net.sent, READ)), len(of_type(net.sent, BEAT))) == (1, 4)


def test_a_confirmed_round_confirms_the_ones_before_it() -> None:
    net = elected()
    net.drop = lambda m: m.type is BEAT_RESP
    read(net, "a", b"1")
    net.propose("a", b"x")
    read(net, "a", b"2")
    net.drop = lambda m: False
    read(net, "a", b"3")
    assert net["a"].reads == [ReadState(1, b"1"), ReadState(2, b"2"), ReadState(2, b"3")]


def test_a_lost_round_is_asked_again_by_the_next_heartbeat() -> None:
    net = elected()
    net.drop = lambda m: m.type is BEAT
    assert read(net, "a") == []
    net.drop = lambda m: False
    net.tick(HEARTBEAT)
    assert net["a"].reads == [ReadState(1, b"r")]


def test_a_follower_waits_until_the_leader_knows_what_is_committed() -> None:
    net = elected()
    net.propose("a", b"x")
    net.drop = lambda m: m.type is MessageType.APP_RESP
    for id in "abc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    assert net.leaders()[-1] == "b"
    assert read(net, "b") == read(net, "c") == []  # its no-op is not committed
    net.drop = lambda m: False
    net.tick(HEARTBEAT)
    assert net["b"].reads == net["c"].reads == [ReadState(3, b"r")]


def test_a_retried_read_is_not_confirmed_by_answers_to_the_first_attempt() -> None:
    """The same request again, with answers of a quorum that were on their way since before."""
    net = elected()
    late: list[Message] = []
    net.drop = lambda m: m.type is BEAT_RESP and not late.append(m)
    assert read(net, "a", b"same") == []
    net["a"].node._raft.reads.clear()  # it gave up
    net["a"].node.read_index(b"same")
    net["a"].drain()
    net.deliver([])
    net.drop = lambda m: False
    net.deliver(late * 2)
    net["a"].drain()
    assert net["a"].reads == []


def test_an_answer_for_an_earlier_life_of_a_follower_is_void() -> None:
    net = elected()
    held: list[Message] = []
    net.drop = lambda m: m.type is READ_RESP and not held.append(m)
    read(net, "b", b"r")
    net.propose("a", b"x")
    net.restart("b", seed=1)
    net.drop = lambda m: m.type is READ_RESP
    net.tick(HEARTBEAT)
    read(net, "b", b"r")
    net.drop = lambda m: False
    net.deliver(held[:1])  # the old answer, with an index before x
    net.settle()
    assert net["b"].reads == []


def test_a_leader_that_was_replaced_confirms_nothing() -> None:
    net = elected("abcde")
    net.cut = {"a", "b"}
    net["a"].node.read_index(b"r")
    net["a"].drain()
    for id in "cde":
        net[id].node.forget_leader()
    net["c"].node.campaign()
    net.settle()
    net.propose("c", b"newer")
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net.role("a") is Role.FOLLOWER
    assert net["a"].reads == []


@pytest.mark.parametrize("late", [False, True])
def test_reads_during_a_leadership_transfer_are_never_stale(late: bool) -> None:
    """The target may lead already when the old leader asks its round; or the order comes late."""
    net = elected()
    orders: list[Message] = []
    net.drop = lambda m: m.type is MessageType.TIMEOUT_NOW and late and not orders.append(m)
    net["a"].node.transfer_leader("c")
    net["a"].drain()
    net.cut = {"a"} if not late else set()
    net.settle()
    if late:
        net.tick(ELECTION)  # the transfer is given up, then the order arrives after all
        net.drop = lambda m: False
        net["a"].node.read_index(b"r")
        net.deliver(orders)
        net.settle()
        assert net["a"].reads in ([], [ReadState(1, b"r")])
    else:
        net["c"].node.step(Message(MessageType.TIMEOUT_NOW, "c", "a", 1))
        net.settle()
        assert net.leaders() == ["a", "c"]
        net.propose("c", b"newer")
        assert read(net, "a") == []
        net.cut = set()
        net.settle()
        net.tick(HEARTBEAT)
        assert net["a"].reads == []


def test_what_was_asked_is_void_when_the_leader_steps_down() -> None:
    net = elected()
    net.cut = {"b", "c"}
    read(net, "a")
    net.tick(ELECTION + 1, only="a")
    net.cut = set()
    net.tick(4 * ELECTION)
    assert net["a"].reads == []
    reads = net["a"].node._raft.reads
    assert (reads.asked, reads.rounds, reads.forwarded) == ([], {}, {})


def test_only_members_are_answered_and_only_by_the_leader() -> None:
    net = elected()
    assert net["a"].step(READ, "x", 1, context=b"k") == []
    assert net["b"].step(READ, "c", 1, context=b"k") == []
    net["b"].step(READ_RESP, "a", 1, context=b"never asked", index=1)
    assert net["b"].reads == []


def test_both_halves_of_a_joint_change_confirm() -> None:
    conf = ConfState(("a", "d", "e"), (), ("a", "b", "c"))
    net = Cluster(Peer(id, MemoryStorage(snapshot=SnapshotMeta(0, 0, conf))) for id in "abcde")
    net.elect("a")
    net.cut = {"d", "e"}
    assert read(net, "a") == []
    net.cut = {"c", "e"}
    net.tick(HEARTBEAT)
    assert net["a"].reads == [ReadState(1, b"r")]


def test_a_follower_remembers_a_bounded_number_of_attempts() -> None:
    peer = lone(term=1)
    peer.step(BEAT, "b", 1)
    for n in range(1500):
        peer.node.read_index(b"%d" % n)
        peer.drain()
    assert len(peer.node._raft.reads.forwarded) == 1024
