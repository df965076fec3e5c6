"""Compaction, and peers that need a state because the entries are gone."""

from random import Random

import pytest

from consensus.changes import ConfChangeType, ConfState, SnapshotMeta
from consensus.errors import RaftError, SafetyViolation
from consensus.messages import Entry, HardState, Message, MessageType
from consensus.node import Role
from consensus.progress import ProgressState
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Cluster, Peer, base, cluster, lone, of_type

APP, APP_RESP, SNAP = MessageType.APP, MessageType.APP_RESP, MessageType.SNAP
ABC = ConfState(("a", "b", "c"))


def lagging(count: int = 5) -> Cluster:
    """a leads and has compacted what c, cut off, has not seen: entries up to count + 1."""
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    for n in range(count):
        net.propose("a", b"%d" % n)
    net["a"].compact()
    net.sent.clear()
    return net


def progress(net: Cluster, peer: str, leader: str = "a") -> ProgressState:
    return net[leader].node.status().progress[peer].state


# -- sending ---------------------------------------------------------------------------------------


def test_a_follower_beyond_the_log_gets_a_snapshot_and_then_entries() -> None:
    net = lagging()
    net.cut = set()
    net.tick(HEARTBEAT)
    net.propose("a", b"x")
    assert net["c"].restored == [SnapshotMeta(6, 1, ABC)]
    assert [e.index for e in net["c"].applied] == [1, 7]
    assert (net["c"].data, progress(net, "c")) == ([b"x"], ProgressState.REPLICATE)
    status = net["c"].node.status()
    assert (status.first_index, status.last_index, status.snapshot_index) == (7, 7, 6)


def test_entries_that_are_still_there_are_sent_as_entries() -> None:
    net = cluster()
    net.elect("a")
    net.cut = {"c"}
    for n in range(5):
        net.propose("a", b"%d" % n)
    net["a"].compact(keep=5)
    net.cut = set()
    net.tick(HEARTBEAT)
    assert (len(net["c"].data), net["c"].restored) == (5, [])


def test_while_a_snapshot_is_on_its_way_only_heartbeats_follow() -> None:
    net = lagging()
    net.cut, net.drop = set(), lambda m: m.type is SNAP
    net.tick(HEARTBEAT)
    assert len(of_type(net.sent, SNAP)) == 1
    net.sent.clear()
    for n in range(3):
        net.propose("a", b"%d" % n)
    net.tick(3 * HEARTBEAT)
    assert {m.type for m in net.sent if m.to == "c"} == {MessageType.HEARTBEAT}
    assert progress(net, "c") is ProgressState.SNAPSHOT


def test_a_snapshot_that_failed_is_sent_again_after_the_next_heartbeat() -> None:
    net = lagging()
    net.cut, net.drop = set(), lambda m: m.type is SNAP
    net.tick(HEARTBEAT)
    net["a"].node.report_snapshot("c", ok=False)
    net.settle()
    assert len(of_type(net.sent, SNAP)) == 1
    net.drop = lambda m: False
    net.tick(2 * HEARTBEAT)
    assert len(of_type(net.sent, SNAP)) == 2
    assert len(net["c"].restored) == 1


def test_after_a_snapshot_arrived_appends_go_on_behind_it() -> None:
    net = lagging()
    net.cut, net.drop = set(), lambda m: m.type is APP_RESP and m.sender == "c" and not m.reject
    net.tick(HEARTBEAT)
    assert len(net["c"].restored) == 1  # but its answer was lost
    net["a"].node.report_snapshot("c", ok=True)
    net.drop = lambda m: False
    net.propose("a", b"x")
    net.tick(2 * HEARTBEAT)
    assert net["c"].data == [b"x"]
    assert len(of_type(net.sent, SNAP)) == 1


def test_reports_about_a_transfer_that_is_over_change_nothing() -> None:
    net = lagging()
    net.cut = set()
    net.tick(HEARTBEAT)
    for ok in (False, True):
        net["a"].node.report_snapshot("c", ok=ok)
        net["a"].node.report_snapshot("nobody", ok=ok)
        net["b"].node.report_snapshot("c", ok=ok)
    assert progress(net, "c") is ProgressState.REPLICATE
    assert not net["a"].node.has_ready()


def test_no_snapshot_for_a_peer_that_does_not_answer() -> None:
    net = lagging()
    net.tick(3 * ELECTION)  # a and b go on without c
    net["a"].compact()
    net["a"].node.report_unreachable("c")
    net.tick(ELECTION)
    assert not of_type(net.sent, SNAP)
    net.cut = set()
    net.tick(2 * HEARTBEAT)
    assert len(net["c"].restored) == 1


def test_compacting_further_during_a_transfer_needs_another_one() -> None:
    net = lagging()
    net.cut = set()
    held = []

    def hold(message: object) -> bool:
        held.append(message)
        return True

    net.drop = lambda m: m.type is SNAP and hold(m)
    net.tick(HEARTBEAT)
    net.propose("a", b"x")
    net["a"].compact()
    net.drop = lambda m: False
    net.deliver([m for m in held if getattr(m, "type", None) is SNAP])
    net.settle()
    assert [meta.index for meta in net["c"].restored] == [6]
    net["a"].node.report_snapshot("c", ok=True)
    net.tick(2 * HEARTBEAT)
    assert [meta.index for meta in net["c"].restored] == [6, 7]
    assert progress(net, "c") is ProgressState.REPLICATE


def test_a_joiner_starts_with_a_snapshot_older_than_its_own_membership() -> None:
    net = cluster()
    net.elect("a")
    net.propose("a", b"x")
    net["a"].compact()
    net.peers["d"] = Peer("d", MemoryStorage())
    net.change("a", ConfChangeType.ADD_LEARNER, "d")
    assert net["d"].restored == [SnapshotMeta(2, 1, ABC)]
    assert net["d"].node.status().learners == ("d",)  # by entry 3
    net["a"].compact()  # everything: the next one gets a snapshot that knows d
    net.peers["e"] = Peer("e", MemoryStorage())
    net.change("a", ConfChangeType.ADD_LEARNER, "e")
    assert net["e"].restored == [SnapshotMeta(3, 1, ConfState(("a", "b", "c"), ("d",)))]


# -- receiving -------------------------------------------------------------------------------------


def snap(peer: Peer, index: int, term: int, message_term: int = 9, voters: str = "abc") -> int:
    """Hand over a snapshot; returns the index that is acknowledged."""
    meta = base(voters, index=index, term=term)
    (answer,) = of_type(peer.step(SNAP, "b", message_term, snapshot=meta), APP_RESP)
    assert (answer.reject, answer.term, answer.to) == (False, message_term, "b")
    return answer.index


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_snapshot_of_what_is_committed_is_acknowledged_and_changes_nothing(index: int) -> None:
    peer = lone(terms=[1, 2, 2, 3], commit=3)
    assert snap(peer, index, 1, voters="xyz") == 3
    status = peer.node.status()
    assert (peer.restored, peer.terms, status.voters) == ([], [1, 2, 2, 3], ("a", "b", "c"))
    assert (status.commit, status.term) == (3, 9)


def test_a_snapshot_that_confirms_our_own_entries_commits_them_and_keeps_the_rest() -> None:
    peer = lone(terms=[1, 2, 2, 3], commit=1)
    assert snap(peer, 3, 2, voters="xyz") == 3
    assert (peer.restored, peer.terms) == ([], [1, 2, 2, 3])
    assert [e.index for e in peer.applied] == [2, 3]
    assert peer.node.status().voters == ("a", "b", "c")


@pytest.mark.parametrize(("index", "term"), [(3, 3), (5, 3), (20, 9)])
def test_another_snapshot_replaces_log_and_configuration(index: int, term: int) -> None:
    peer = lone(terms=[1, 2, 2, 3], commit=1)
    assert snap(peer, index, term, voters="ax") == index
    status = peer.node.status()
    assert (peer.terms, peer.applied) == ([], [])
    assert (status.voters, status.commit, status.applied) == (("a", "x"), index, index)
    assert peer.storage.snapshot() == base("ax", index=index, term=term)
    peer.step(APP, "b", 9, index=index, log_term=term, entries=(Entry(index + 1, 9),))
    assert (peer.terms, status.first_index) == ([9], index + 1)


def test_a_snapshot_of_an_older_leader_is_answered_with_the_term() -> None:
    peer = lone(term=5)
    (answer,) = peer.step(SNAP, "b", 4, snapshot=base("abc", index=7, term=4))
    assert (answer.type, answer.term, peer.restored) == (APP_RESP, 5, [])


def test_two_leaders_of_one_term_are_noticed_by_a_snapshot() -> None:
    peer = lone(term=1)
    peer.step(MessageType.HEARTBEAT, "c", 1)
    with pytest.raises(SafetyViolation, match="both lead term 1"):
        peer.step(SNAP, "b", 1, snapshot=base("abc", index=7, term=1))


def test_a_snapshot_is_acknowledged_only_when_it_is_durable() -> None:
    peer = lone(terms=[1], term=9)
    peer.hold_disk = True
    assert not peer.step(SNAP, "b", 9, snapshot=base("abc", index=7, term=4))
    (answer,) = peer.release()
    assert (answer.type, answer.index, peer.storage.snapshot().index) == (APP_RESP, 7, 7)


def test_entries_that_follow_a_snapshot_are_durable_together_with_it() -> None:
    peer = lone(terms=[1, 1], term=9)
    peer.node.step(of_snap(7, 4))
    peer.step(APP, "b", 9, index=7, log_term=4, commit=8, entries=(Entry(8, 5), Entry(9, 9)))
    assert (peer.terms, [e.index for e in peer.applied]) == ([5, 9], [8])
    assert peer.storage.term(7) == 4


def of_snap(index: int, term: int) -> Message:
    return Message(SNAP, "a", "b", 9, snapshot=base("abc", index=index, term=term))


def test_nobody_stands_while_a_snapshot_waits_to_be_installed() -> None:
    peer = lone(terms=[1], term=9)
    peer.node.step(of_snap(7, 4))
    ready = peer.node.ready()
    for _ in range(3 * ELECTION):
        peer.node.tick()
    peer.node.campaign()
    peer.node.step(Message(MessageType.TIMEOUT_NOW, "a", "b", 9))
    assert peer.node.status().role is Role.FOLLOWER
    peer.finish(ready)
    peer.node.campaign()
    assert peer.node.status().role is Role.PRE_CANDIDATE


def test_a_newer_snapshot_may_arrive_while_one_is_installed() -> None:
    peer = lone(terms=[1], term=9)
    peer.node.step(of_snap(7, 4))
    first = peer.node.ready()
    peer.node.step(of_snap(12, 5))
    peer.node.step(Message(APP, "a", "b", 9, 5, 12, 13, entries=(Entry(13, 9),)))
    peer.finish(first)
    assert peer.node.status().applied == 7
    peer.drain()
    assert [meta.index for meta in peer.restored] == [7, 12]
    assert ([e.index for e in peer.applied], peer.terms) == ([13], [9])


def test_a_write_that_ends_after_a_snapshot_came_does_not_count_for_it() -> None:
    peer = lone(terms=[1], term=9)
    peer.node.step(Message(APP, "a", "b", 9, 1, 1, entries=(Entry(2, 9), Entry(3, 9))))
    writing = peer.node.ready()
    peer.node.step(of_snap(12, 5))
    peer.finish(writing)
    peer.drain()
    assert (peer.terms, peer.storage.last_index(), peer.node.status().last_index) == ([], 12, 12)


def test_advance_without_installing_is_refused() -> None:
    peer = lone(term=9)
    peer.node.step(of_snap(7, 4))
    with pytest.raises(RaftError, match="before the snapshot at 7 was installed"):
        peer.node.advance(peer.node.ready())


# -- a log without its beginning -------------------------------------------------------------------


def test_old_appends_into_the_compacted_part_change_nothing() -> None:
    """Entries before the log's beginning, with and without a place to attach them to."""
    peer = lone(terms=[1, 1, 2, 2], commit=3)
    peer.storage.compact(3)
    old = tuple(Entry(i, 1) for i in (1, 2))
    for index, term, entries in [(0, 0, old), (1, 1, old[1:]), (2, 1, ())]:
        (answer,) = peer.step(APP, "b", 3, index=index, log_term=term, entries=entries)
        assert (answer.index, answer.reject) == (3, False)
    assert peer.terms == [2]


def test_the_term_at_the_border_is_known_and_nothing_before_it() -> None:
    peer = lone(terms=[1, 1, 2, 2, 3], commit=4)
    peer.storage.compact(3)
    log = peer.node._raft.log
    assert [log.term(index) for index in range(7)] == [0, 0, 0, 2, 2, 3, 0]
    assert [log.matches(i, t) for i, t in [(0, 0), (2, 0), (2, 1), (3, 2), (6, 0)]] == [
        *(True, False, False, True, False),
    ]
    assert log.find_conflict_by_term(5, 1) == (2, 0)
    with pytest.raises(SafetyViolation, match="entry 3"):
        log.entries(3, 5, 100)


def test_storage_forgets_only_what_a_snapshot_holds() -> None:
    storage = MemoryStorage(entries=[Entry(i, 1) for i in range(1, 6)])
    with pytest.raises(ValueError, match="not in the snapshot"):
        storage.compact(1)
    for index in (6, 9):
        with pytest.raises(ValueError, match="after the last entry"):
            storage.create_snapshot(SnapshotMeta(index, 1))
    storage.create_snapshot(SnapshotMeta(4, 1))
    storage.compact(3)
    storage.compact(2)  # again: nothing to do
    assert (storage.first_index(), storage.last_index(), storage.term(3)) == (4, 5, 1)
    with pytest.raises(IndexError):
        storage.term(2)
    with pytest.raises(IndexError):
        storage.entries(3, 5, 100)
    with pytest.raises(ValueError, match="before the one at 4"):
        storage.create_snapshot(SnapshotMeta(3, 1))
    with pytest.raises(ValueError, match="there already"):
        storage.install(SnapshotMeta(3, 1))
    with pytest.raises(ValueError, match="does not follow"):
        storage.append([Entry(3, 1)])


@pytest.mark.parametrize(
    ("first", "begins"), [(1, 1), (3, 4), (4, 5), (5, 5)], ids=["all", "some", "one", "none"]
)
def test_storage_starts_from_a_snapshot_and_what_is_left_of_the_log(
    first: int, begins: int
) -> None:
    entries = [Entry(i, i) for i in range(first, 8)]
    storage = MemoryStorage(HardState(9, None, 6), entries, SnapshotMeta(4, 4))
    assert (storage.first_index(), storage.last_index()) == (begins, 7)
    assert storage.term(begins - 1) == begins - 1
    with pytest.raises(ValueError, match="does not follow"):
        MemoryStorage(entries=[Entry(6, 6)], snapshot=SnapshotMeta(4, 4))


# -- starting again --------------------------------------------------------------------------------


def test_a_restart_begins_with_the_snapshot_and_applies_what_follows() -> None:
    net = cluster()
    net.elect("a")
    for n in range(4):
        net.propose("a", b"%d" % n)
        if n == 1:
            net["b"].compact()
    peer = net.restart("b")
    status = peer.node.status()
    assert (status.applied, status.first_index, status.voters) == (3, 4, ("a", "b", "c"))
    peer.drain()
    assert peer.data == [b"2", b"3"]


def test_a_crash_between_installing_a_snapshot_and_saving_term_and_commit_is_harmless() -> None:
    storage = MemoryStorage(HardState(3, "c", 1), [Entry(1, 1)])
    storage.install(base("abc", index=7, term=5))
    status = Peer("a", storage).node.status()
    assert (status.term, status.commit, status.applied, status.last_index) == (5, 7, 7, 7)
    (answer,) = Peer("a", storage).step(MessageType.VOTE, "b", 5, index=7, log_term=5)
    assert not answer.reject


def test_a_log_with_a_hole_is_refused() -> None:
    storage = MemoryStorage(HardState(2, None, 9), [Entry(5, 1)], base("a", index=4, term=1))
    with pytest.raises(ValueError, match="lost"):
        Peer("a", storage)


# -- all of it at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_everybody_compacts_all_the_time_and_messages_get_lost(seed: int) -> None:
    """Whatever was applied follows a snapshot or the entry before it, and all end up equal."""
    rng = Random(seed)
    net = cluster("abcde")
    net.tick(3 * ELECTION)
    net.drop = lambda m: rng.random() < 0.25
    written = 0
    for step in range(150):
        for id in net.leaders()[:1]:
            net[id].node.propose(b"%d" % step)
            written += 1
        net.tick(1)
        peer = net[rng.choice("abcde")]
        if peer.node.status().applied:
            peer.compact(keep=rng.randrange(3))
        if rng.random() < 0.05:
            net.restart(rng.choice("abcde"))
        for id in net.leaders():
            for other, seen in net[id].node.status().progress.items():
                if seen.state is ProgressState.SNAPSHOT and rng.random() < 0.3:
                    net[id].node.report_snapshot(other, ok=rng.random() < 0.5)
    net.drop = lambda m: False
    net.tick(6 * ELECTION)
    for id in net.leaders():
        net.propose(id, b"last")
    for leader in net.leaders():
        for id in "abcde":
            net[leader].node.report_snapshot(id, ok=False)
    net.tick(4 * ELECTION)
    assert written > 50
    ends = {(p.node.status().applied, p.applied[-1].data) for p in net.peers.values()}
    assert len(ends) == 1
    for peer in net.peers.values():
        restored = {meta.index for meta in peer.restored}
        for before, after in zip(peer.applied, peer.applied[1:], strict=False):
            assert after.index == before.index + 1 or after.index - 1 in restored
