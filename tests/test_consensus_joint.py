"""Several members at once: joint configurations, entered and left under the guards."""

import pytest

from consensus.changes import ConfChange, ConfChangeType, ConfState, SnapshotMeta, Step, Transition
from consensus.confchange import Configuration, InvalidChange, changed
from consensus.errors import ProposalDropped
from consensus.messages import EntryType, MessageType
from consensus.node import Role
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, cluster, lone, of_type

STEPS = {
    "v": ConfChangeType.ADD_VOTER,
    "l": ConfChangeType.ADD_LEARNER,
    "r": ConfChangeType.REMOVE,
    "u": ConfChangeType.UPDATE,
}
APP_RESP = MessageType.APP_RESP


def change(text: str, transition: Transition = Transition.AUTO) -> ConfChange:
    """ "vd rb": d becomes a voter and b goes."""
    return ConfChange(tuple(Step(STEPS[w[0]], w[1:]) for w in text.split()), transition)


LEAVE = ConfChange()


def elected(ids: str = "abc", learners: str = "", outside: str = "") -> Cluster:
    """a leads; `outside`: peers that are no members yet."""
    net = cluster(ids, learners)
    for id in outside:
        net.peers[id] = lone(id, voters=ids, learners=learners)
    net.elect("a")
    return net


def propose(net: Cluster, text: str, transition: Transition = Transition.AUTO) -> None:
    net["a"].node.propose_conf_change(change(text, transition))
    net.settle()


def conf(net: Cluster, id: str = "a") -> ConfState:
    status = net[id].node.status()
    return ConfState(status.voters, status.learners, status.voters_outgoing, status.learners_next)


def conf_changes(peer: Peer) -> list[ConfChange]:
    entries = [e for e in peer.applied if e.type is EntryType.CONF_CHANGE]
    return [ConfChange.decode(e.data) for e in entries]


@pytest.mark.parametrize(
    ("text", "transition", "after"),
    [
        ("vd", Transition.AUTO, ConfState(("a", "b", "c", "d"))),
        ("lc ld", Transition.AUTO, ConfState(("a", "b"), ("c", "d"))),
        ("vd ve", Transition.AUTO, ConfState(tuple("abcde"), (), tuple("abc"), (), True)),
        ("vd rc", Transition.AUTO, ConfState(tuple("abd"), (), tuple("abc"), (), True)),
        ("vd lc", Transition.AUTO, ConfState(tuple("abd"), (), tuple("abc"), ("c",), True)),
        ("vd", Transition.JOINT_IMPLICIT, ConfState(tuple("abcd"), (), tuple("abc"), (), True)),
        ("vd", Transition.JOINT_EXPLICIT, ConfState(tuple("abcd"), (), tuple("abc"))),
        ("ua", Transition.AUTO, ConfState(tuple("abc"))),
    ],
)
def test_a_change_becomes_simple_or_joint(
    text: str, transition: Transition, after: ConfState
) -> None:
    current = Configuration.from_conf_state(ConfState(tuple("abc")))
    target = changed(current, change(text, transition))
    assert target.conf_state() == after
    assert Configuration.from_conf_state(after) == target


@pytest.mark.parametrize("text", ["ra rb rc", "la lb lc vd rd"])
def test_some_voter_must_be_left(text: str) -> None:
    current = Configuration.from_conf_state(ConfState(tuple("abc")))
    with pytest.raises(InvalidChange, match="no voter would be left"):
        changed(current, change(text))


def test_two_voters_join_in_one_step_and_the_leader_leaves_by_itself() -> None:
    net = elected("a", outside="bc")
    propose(net, "vb vc")
    assert {conf(net, id) for id in "abc"} == {ConfState(tuple("abc"))}
    assert [len(c.steps) for c in conf_changes(net["c"])] == [2, 0]
    net.cut = {"b"}
    net.propose("a", b"x")
    assert net["c"].data == [b"x"]


def test_a_dead_voter_is_swapped_for_a_learner_in_one_step() -> None:
    net = elected("abc", learners="d")
    net.cut = {"c"}
    propose(net, "vd rc")
    assert conf(net, "d") == ConfState(("a", "b", "d"))


def test_an_explicit_joint_change_stays_until_it_is_left() -> None:
    net = elected("abc", outside="d")
    propose(net, "vd lc", Transition.JOINT_EXPLICIT)
    net.tick(2 * ELECTION)
    joint = ConfState(tuple("abd"), (), tuple("abc"), ("c",))
    assert {conf(net, id) for id in "abcd"} == {joint}
    with pytest.raises(ProposalDropped, match="leave it"):
        net["a"].node.propose_conf_change(change("ve"))
    with pytest.raises(ProposalDropped, match="under way already"):
        net["a"].node.propose_conf_change(change("ve", Transition.JOINT_EXPLICIT))
    net["a"].node.propose_conf_change(LEAVE)
    net.settle()
    assert {conf(net, id) for id in "abcd"} == {ConfState(tuple("abd"), ("c",))}


def test_leaving_needs_something_to_leave() -> None:
    net = elected()
    with pytest.raises(ProposalDropped, match="no joint change is under way"):
        net["a"].node.propose_conf_change(LEAVE)


def joint(old: str, new: str, auto_leave: bool = False) -> Cluster:
    """Peers inside a joint change from `old` to `new`; the first leads."""
    ids = sorted({*old, *new})
    state = ConfState(tuple(sorted(new)), (), tuple(sorted(old)), (), auto_leave)
    snapshot = SnapshotMeta(0, 0, state)
    return Cluster(Peer(id, MemoryStorage(snapshot=snapshot)) for id in ids)


@pytest.mark.parametrize(
    ("cut", "wins"),
    [("", True), ("bc", False), ("de", False), ("bd", True), ("b", True), ("bcde", False)],
)
def test_elections_and_commits_need_both_majorities(cut: str, wins: bool) -> None:
    net = joint("abc", "ade")
    net.cut = set(cut)
    net["a"].node.campaign()
    net.settle()
    assert (net.leaders() == ["a"]) == wins
    if not wins:
        net.cut = set()
        net.elect("a")
        net.cut = set(cut)
    before = net["a"].node.status().commit
    net.propose("a", b"x")
    assert (net["a"].node.status().commit > before) == wins


def test_check_quorum_counts_both_halves() -> None:
    net = joint("abc", "ade")
    net.elect("a")
    net.cut = {"d", "e"}
    net.tick(ELECTION + 1, only="abc")
    assert net.role("a") is Role.FOLLOWER


def test_the_leader_of_the_old_half_leads_until_the_change_is_left() -> None:
    net = elected("abc", outside="de")
    propose(net, "vd ve ra", Transition.JOINT_EXPLICIT)
    assert net.role("a") is Role.LEADER
    net.propose("a", b"x")
    net["a"].node.propose_conf_change(LEAVE)
    net.settle()
    assert net.role("a") is Role.FOLLOWER
    net.tick(4 * ELECTION)
    (leader,) = net.leaders()
    assert leader != "a"
    assert net[leader].node.status().voters == tuple("bcde")


def test_a_leader_that_its_own_change_removes_leads_until_it_is_left() -> None:
    net = elected("abc", outside="d")
    propose(net, "vd ra")
    assert net.role("a") is Role.FOLLOWER
    assert conf(net, "b") == ConfState(tuple("bcd"))
    net.tick(4 * ELECTION)
    assert net.leaders()[0] in "bcd"


# -- leaving by itself -----------------------------------------------------------------------------


def leaves(net: Cluster, id: str) -> int:
    """How many entries in its log leave a joint change."""
    storage = net[id].storage
    entries = storage.entries(1, storage.last_index() + 1, 1 << 30)
    found = [ConfChange.decode(e.data) for e in entries if e.type is EntryType.CONF_CHANGE]
    return sum(c.leaves_joint for c in found)


def test_the_leave_entry_is_proposed_once_however_long_it_takes() -> None:
    net = elected("abc", outside="de")
    net["a"].node.propose_conf_change(change("vd ve"))
    net["a"].node.propose(b"with it")
    out = net["a"].drain()
    net.deliver(out)
    net.deliver(net["b"].drain())  # committed and applied on a, which appends the leave entry
    net.drop = lambda m: m.type is APP_RESP
    for n in range(3):
        net["a"].node.propose(b"%d" % n)
        net.tick(HEARTBEAT)
    assert (leaves(net, "a"), net["a"].node.status().voters_outgoing) == (1, ("a", "b", "c"))
    net.drop = lambda m: False
    net.tick(2 * HEARTBEAT)
    assert (leaves(net, "d"), conf(net, "e")) == (1, ConfState(tuple("abcde")))


def test_a_new_leader_leaves_what_its_predecessor_entered() -> None:
    net = joint("abc", "abd", auto_leave=True)
    net.elect("b")
    assert {conf(net, id) for id in "abd"} == {ConfState(tuple("abd"))}
    assert leaves(net, "b") == 1


def test_leaving_waits_for_an_entry_of_the_leaders_own_term() -> None:
    net = joint("abc", "abd", auto_leave=True)
    net.drop = lambda m: m.type is APP_RESP
    net["b"].node.campaign()
    net.settle()
    assert (net.leaders(), leaves(net, "b")) == (["b"], 0)


def test_leaving_waits_for_a_leadership_transfer_to_end() -> None:
    net = elected("abc", outside="de")
    net.cut = {"c"}
    net["a"].node.propose_conf_change(change("vd ve"))
    net["a"].node.transfer_leader("c")
    net.settle()
    assert leaves(net, "a") == 0
    net.tick(ELECTION)  # given up
    assert leaves(net, "a") == 1
    assert conf(net, "e") == ConfState(tuple("abcde"))


# -- guards ----------------------------------------------------------------------------------------


def test_one_change_at_a_time_also_inside_a_joint_one() -> None:
    net = elected("abc", outside="de")
    net.cut = {"b", "c"}
    net["a"].node.propose_conf_change(change("vd ve"))
    net.settle()
    assert net["a"].node.status().pending_conf_index == 2
    for text in ("vf", "rb"):
        with pytest.raises(ProposalDropped, match="not applied yet"):
            net["a"].node.propose_conf_change(change(text))


def test_what_is_in_force_is_refused_but_an_update_is_passed_on() -> None:
    net = elected()
    with pytest.raises(ProposalDropped, match="already in force"):
        net["a"].node.propose_conf_change(ConfChange(change("va vb").steps, context=b"why"))
    update = ConfChange(change("ub").steps, context=b"moved")
    net["a"].node.propose_conf_change(update)
    net.settle()
    assert conf_changes(net["b"]) == [update]


def test_a_snapshot_taken_inside_a_joint_change_is_left_after_it_is_restored() -> None:
    net = elected("abc", outside="de")
    net.cut = {"e"}
    propose(net, "vd ve", Transition.JOINT_EXPLICIT)
    net.propose("a", b"x")
    net["a"].compact()
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert net["e"].restored[0].conf == ConfState(tuple("abcde"), (), tuple("abc"))
    net["a"].node.propose_conf_change(LEAVE)
    net.settle()
    assert conf(net, "e") == ConfState(tuple("abcde"))


def test_a_demoted_voter_still_votes_in_the_old_half() -> None:
    net = elected("abc", outside="d")
    propose(net, "vd lc", Transition.JOINT_EXPLICIT)
    net.cut = {"a", "d"}
    for id in "bc":
        net[id].node.forget_leader()
    net["c"].node.campaign()
    net.settle()
    assert of_type(net.sent, MessageType.PRE_VOTE)  # it may stand, and needs both halves
    assert net.leaders() == ["a"]


def test_a_stranger_in_neither_half_does_not_count() -> None:
    peer = lone(voters="abc", term=1, pre_vote=False)
    peer.node.campaign()
    peer.drain()
    for stranger in "xyz":
        peer.step(MessageType.VOTE_RESP, stranger, 2)
    assert peer.node.status().role is Role.CANDIDATE
