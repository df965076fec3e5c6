"""Adding, promoting, demoting and removing peers one at a time, under the guards."""

import pytest

from consensus.changes import ConfChange, ConfChangeType, ConfState
from consensus.confchange import Configuration, InvalidChange, changed
from consensus.errors import ProposalDropped
from consensus.messages import MessageType
from consensus.node import Role, bootstrap
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, cluster, lone, of_type

ADD_VOTER, ADD_LEARNER = ConfChangeType.ADD_VOTER, ConfChangeType.ADD_LEARNER
REMOVE = ConfChangeType.REMOVE


def founded(ids: str = "abc") -> Cluster:
    """The first founds, the others join as it happens in a real cluster."""
    hard_state, entries = bootstrap(ids[0], b"address")
    founder = Peer(ids[0], MemoryStorage(hard_state, entries))
    net = Cluster([founder, *(Peer(id, MemoryStorage()) for id in ids[1:])])
    net.settle()
    founder.node.campaign()
    net.settle()
    for id in ids[1:]:
        net.change(ids[0], ADD_LEARNER, id)
        net.change(ids[0], ADD_VOTER, id)
    return net


def conf(voters: str, learners: str = "") -> Configuration:
    return Configuration.from_conf_state(ConfState(tuple(voters), tuple(learners)))


@pytest.mark.parametrize(
    ("voters", "learners", "kind", "peer", "after"),
    [
        ("a", "", ADD_VOTER, "b", ("ab", "")),
        ("a", "b", ADD_VOTER, "b", ("ab", "")),
        ("ab", "", ADD_VOTER, "b", ("ab", "")),
        ("a", "", ADD_LEARNER, "b", ("a", "b")),
        ("ab", "", ADD_LEARNER, "b", ("a", "b")),
        ("ab", "c", REMOVE, "b", ("a", "c")),
        ("ab", "c", REMOVE, "c", ("ab", "")),
        ("ab", "c", REMOVE, "x", ("ab", "c")),
    ],
)
def test_simple_changes(
    voters: str, learners: str, kind: ConfChangeType, peer: str, after: tuple[str, str]
) -> None:
    assert changed(conf(voters, learners), ConfChange.one(kind, peer)) == conf(*after)


def test_a_leader_has_on_disk_that_a_change_is_committed_before_it_says_so() -> None:
    """b loses its vote. Should a come back without entry 6 and not know of the change, it would
    need the vote of b, whose log is longer, and which does not stand for election any more."""
    net = founded("ab")
    a, b = net["a"], net["b"]
    a.node.propose_conf_change(ConfChange.one(ADD_LEARNER, "b"))
    for message in a.drain():
        b.node.step(message)
    answers = b.drain()
    a.hold_disk = True
    for message in answers:
        a.node.step(message)
    a.node.propose(b"x")
    assert a.drain() == []
    assert a.held is not None
    assert a.held.must_sync
    assert a.held.hard_state is not None
    assert a.held.hard_state.commit == a.held.committed[-1].index
    assert of_type(a.release(), MessageType.APP)


@pytest.mark.parametrize("kind", [REMOVE, ADD_LEARNER])
def test_the_last_voter_stays(kind: ConfChangeType) -> None:
    with pytest.raises(InvalidChange, match="no voter would be left"):
        changed(conf("a", "b"), ConfChange.one(kind, "a"))
    net = founded("a")
    with pytest.raises(ProposalDropped, match="no voter would be left"):
        net["a"].node.propose_conf_change(ConfChange.one(kind, "a"))


def test_a_cluster_grows_from_one_founder() -> None:
    net = founded("abcde")
    net.propose("a", b"x")
    for id in "abcde":
        status = net[id].node.status()
        assert status.voters == tuple("abcde")
        assert net[id].data == [b"x"]
    assert ConfChange.decode(net["e"].applied[0].data) == ConfChange.one(ADD_VOTER, "a", b"address")


def test_a_founder_restarts_with_its_configuration_from_the_log() -> None:
    net = founded("a")
    peer = net.restart("a")
    assert peer.node.status().voters == ()
    net.settle()
    assert peer.node.status().voters == ("a",)
    net.tick(2 * ELECTION)
    assert net.leaders() == ["a"]


def test_a_joiner_never_stands_by_itself() -> None:
    joiner = Peer("j", MemoryStorage())
    for _ in range(10 * ELECTION):
        joiner.node.tick()
    joiner.node.campaign()
    assert joiner.drain() == []


def test_one_change_at_a_time() -> None:
    net = founded("abc")
    net["a"].node.propose_conf_change(ConfChange.one(ADD_LEARNER, "d"))
    with pytest.raises(ProposalDropped, match="not applied yet"):
        net["a"].node.propose_conf_change(ConfChange.one(ADD_LEARNER, "e"))
    net.settle()
    net["a"].node.propose_conf_change(ConfChange.one(ADD_LEARNER, "e"))


def test_a_committed_change_blocks_the_next_until_it_is_applied() -> None:
    net = founded("a")
    net["a"].node.propose_conf_change(ConfChange.one(ADD_LEARNER, "d"))
    first = net["a"].node.ready()
    net["a"].finish(first)
    second = net["a"].node.ready()
    assert [e.index for e in second.committed] == [net["a"].node.status().commit]
    with pytest.raises(ProposalDropped, match="not applied yet"):
        net["a"].node.propose_conf_change(ConfChange.one(ADD_LEARNER, "e"))


def test_what_is_in_force_already_is_refused() -> None:
    net = founded("abc")
    for kind, peer in [(ADD_VOTER, "b"), (REMOVE, "x")]:
        with pytest.raises(ProposalDropped, match="already in force"):
            net["a"].node.propose_conf_change(ConfChange.one(kind, peer))


def test_followers_refuse_with_who_they_are() -> None:
    net = founded("abc")
    for kind, peer in [(ADD_VOTER, "d"), (ADD_VOTER, "b"), (REMOVE, "b")]:
        with pytest.raises(ProposalDropped, match="b is not the leader"):
            net["b"].node.propose_conf_change(ConfChange.one(kind, peer))


def test_a_change_needs_the_majority_from_before_it() -> None:
    net = founded("abc")
    net.cut = {"b", "c"}
    net["a"].node.propose_conf_change(ConfChange.one(REMOVE, "b"))
    net.settle()
    assert net["a"].node.status().voters == tuple("abc")


def test_a_removed_peer_does_not_count_any_more() -> None:
    net = founded("abc")
    net.cut = {"b"}
    net.change("a", REMOVE, "b")
    assert net["a"].node.status().voters == ("a", "c")
    assert "b" not in net["a"].node.status().progress
    net.cut = {"b", "c"}
    net.propose("a", b"x")
    net["a"].step(MessageType.APP_RESP, "b", 2, index=net["a"].node.status().last_index)
    assert net["a"].data == []


def test_a_removed_peer_learns_of_it() -> None:
    net = founded("abc")
    net.change("a", REMOVE, "c")
    assert net["c"].node.status().voters == ("a", "b")
    net.tick(10 * ELECTION, only="c")
    assert net.role("c") is Role.FOLLOWER


def test_removing_a_dead_peer_commits_what_waited_for_it() -> None:
    net = founded("ab")
    net.change("a", ADD_VOTER, "c")  # c never existed
    net["a"].node.propose_conf_change(ConfChange.one(REMOVE, "c"))
    net.settle()
    net.cut = {"b"}
    net.propose("a", b"x")
    assert net["a"].data == []
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net["b"].data == [b"x"]


def test_a_demoted_voter_follows_and_does_not_vote() -> None:
    net = founded("abc")
    net.change("a", ADD_LEARNER, "c")
    net.propose("a", b"x")
    status = net["c"].node.status()
    assert (status.voters, status.learners, net["c"].data) == (("a", "b"), ("c",), [b"x"])
    net["c"].node.forget_leader()
    net["c"].node.campaign()
    assert net["c"].drain() == []


def test_a_leader_that_demotes_itself_steps_down() -> None:
    net = founded("abc")
    net.change("a", ADD_LEARNER, "a")
    assert net.role("a") is Role.FOLLOWER
    net.tick(4 * ELECTION)
    (leader,) = net.leaders()
    net.propose(leader, b"x")
    assert net["a"].data == [b"x"]


def test_a_candidate_that_learns_of_its_removal_stops() -> None:
    peer = lone(term=1)
    peer.node.campaign()
    peer.node.apply_conf_change(ConfChange.one(REMOVE, "a"))
    assert peer.node.status().role is Role.FOLLOWER


def test_the_same_peer_may_come_back() -> None:
    net = founded("abc")
    net.change("a", REMOVE, "c")
    net.propose("a", b"x")
    net.change("a", ADD_LEARNER, "c")
    assert net["c"].data == [b"x"]


def test_a_new_leader_waits_for_its_predecessors_change() -> None:
    net = founded("abc")
    net.cut = {"b", "c"}
    net["a"].node.propose_conf_change(ConfChange.one(ADD_VOTER, "d"))
    net.settle()
    net.cut = {"a"}
    for id in "bc":
        net[id].node.forget_leader()
    net["b"].node.campaign()
    net.settle()
    net["b"].node.propose_conf_change(ConfChange.one(REMOVE, "c"))  # its no-op is committed by now
    net.settle()
    net.cut = set()
    net.tick(3 * HEARTBEAT)
    assert {net[id].node.status().voters for id in "abc"} == {("a", "b")}


def test_the_schedule_of_2015() -> None:
    """Ongaro's bug of single-server changes: sibling configurations whose majorities do not meet.

    {a,b,c,d}: a appends +e, reaches nobody. b is elected, wants −a: with the guard it must first
    commit an entry of its own, which any later leader holds, so a cannot win with +e.
    """
    net = cluster("abcd")
    net.peers["e"] = lone("e", voters="abcd")
    net.elect("a")
    net.cut = {"b", "c", "d"}
    net["a"].node.propose_conf_change(ConfChange.one(ADD_VOTER, "e"))
    net.settle()
    net.cut = {"a"}
    for id in "bcd":
        net[id].node.forget_leader()
    net.drop = lambda m: m.type is MessageType.APP
    net["b"].node.campaign()
    net.settle()
    with pytest.raises(ProposalDropped, match="not"):
        net["b"].node.propose_conf_change(ConfChange.one(REMOVE, "a"))
    net.drop = lambda m: False
    net.tick(2 * HEARTBEAT)
    net["b"].node.propose_conf_change(ConfChange.one(REMOVE, "a"))
    net.settle()
    net.tick(ELECTION + 1, only="a")  # nobody answers: it stops leading
    net.cut = set()
    for id in "acde":
        net[id].node.forget_leader()
    net["a"].node.campaign()
    net.settle()
    assert net.leaders() == ["b"]
    net.tick(2 * ELECTION)
    assert net["c"].node.status().voters == ("b", "c", "d")


def test_a_new_member_starts_as_just_heard() -> None:
    net = founded("ab")
    net.tick(ELECTION)
    net.change("a", ADD_VOTER, "c")  # silent for ever
    net.tick(ELECTION // 2)
    assert net["a"].node.status().progress["c"].recent_active
    net.tick(ELECTION)
    assert not net["a"].node.status().progress["c"].recent_active
    assert net.leaders() == ["a"]
    assert of_type(net.sent, MessageType.APP)
