"""recover --force-new-cluster: one peer goes on with what it has, alone, and others join anew."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus.changes import ConfChange, ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.replicated.wire import to_chunks
from p2p.storage.data_dir import Remembered
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.storage.recover import make_sole_voter, salvage
from p2p.storage.rejoin import open_log, set_log_aside
from tests.cluster_fixtures import ask, leader_of, p2pnode, settled, wait_for
from tests.peer_fakes import CLUSTER
from tests.peer_twins import TwinCluster, grown
from tests.test_rejoin import flip


def lost_majority(count: int = 3) -> tuple[TwinCluster, MemoryDisk, str]:
    """All but one are gone; what is left of it, and a job they had agreed on."""
    cluster = grown(count)
    assert "ok" in cluster.ask("a", "submit", task="digits", peers_min=9)
    cluster.until(cluster.agreed, "agreement")
    survivor = next(twin.name for twin in cluster.live() if not twin.peer.raft.is_leader)
    disks = {twin.name: cluster.kill(twin.name) for twin in cluster.live()}
    return cluster, disks[survivor], survivor


def go_on(cluster: TwinCluster, disk: MemoryDisk, survivor: str) -> None:
    twin = cluster.start(survivor, disk)
    assert twin.peer.is_sole_voter
    twin.peer.raft.node.campaign()
    twin.peer.advance()
    cluster.until(cluster.has_leader, "it leads")


@pytest.mark.parametrize("count", [3, 5])
def test_one_of_several_goes_on_alone_and_others_join(count: int) -> None:
    cluster, disk, survivor = lost_majority(count)
    found = salvage(disk)
    kept = make_sole_voter(disk, found, survivor, at_s=5.0)
    assert kept == found.last[0]
    go_on(cluster, disk, survivor)
    state = cluster.leader.peer.state
    assert len(state.jobs) == 1
    assert set(state.members) == {survivor}
    assert state.removed == set("abcde"[:count]) - {survivor}
    assert any(event.kind == "recovered" for event in state.events)
    cluster.join("x")
    cluster.join("y")
    cluster.until(lambda: cluster.voters() == {survivor, "x", "y"}, "three voters")
    cluster.until(cluster.agreed, "agreement")
    assert len(cluster.twins["y"].peer.state.jobs) == 1


def test_a_lost_peer_cannot_come_back_under_its_old_id() -> None:
    cluster, disk, survivor = lost_majority()
    other = next(name for name in "abc" if name != survivor)
    make_sole_voter(disk, salvage(disk), survivor, at_s=5.0)
    go_on(cluster, disk, survivor)
    member = {**dict(cluster.leader.peer.identity.member), "id": other, "name": other}
    assert cluster.ask(survivor, "join", member=member)["exit_code"] == 4


def test_a_damaged_log_is_kept_as_far_as_it_is_sound() -> None:
    cluster, disk, survivor = lost_majority()
    whole = salvage(disk)
    flip(disk)
    found = salvage(disk)
    assert found.flaw
    assert 0 < found.last[0] < whole.last[0]
    assert found.entries == whole.entries[: len(found.entries)]
    make_sole_voter(disk, found, survivor, at_s=5.0)
    go_on(cluster, disk, survivor)
    assert any(name.startswith("damaged-5-wal") for name in disk.names())


def test_a_snapshot_and_the_sound_entries_after_it_are_kept() -> None:
    disk = MemoryDisk()
    store = LogStore(disk, segment_bytes=200)
    cluster = TwinCluster()
    state = cluster.found("a").peer.state
    entries = [Entry(1, 1, EntryType.CONF_CHANGE, ConfChange().encode())]
    entries += [Entry(index, 1, EntryType.NORMAL, b"") for index in range(2, 21)]
    for entry in entries:
        store.save(HardState(1, None, entry.index), [entry], must_sync=True)
    meta = SnapshotMeta(12, 1, ConfState(("a", "b", "c")))
    snapshot = store.begin_snapshot(meta)
    for chunk in to_chunks(state):
        snapshot.write(chunk)
    snapshot.finish()
    store.compact(12)
    flip(disk)
    kept = salvage(disk)
    assert kept.flaw
    assert kept.snapshot == meta
    assert 12 <= kept.last[0] < 20
    make_sole_voter(disk, kept, "a", at_s=5.0)
    again = salvage(disk)
    assert again.flaw == ""
    assert again.snapshot == meta
    assert again.configuration == ConfState(("a",))
    assert again.entries[: len(kept.entries)] == kept.entries


def test_a_log_that_a_start_has_set_aside_is_found_again() -> None:
    """Damaged, then started as always: an empty log under a new id, and nobody left to ask."""
    cluster, disk, survivor = lost_majority()
    flip(disk)
    sound = salvage(disk)
    who = Remembered(survivor, survivor, "127.0.0.1:7001", CLUSTER, others=("127.0.0.1:7002",))
    for second in (3.0, 20.0):  # an older set is there as well
        disk.put(f"damaged-{second:.0f}-raft.mark", b"older")
    who = open_log(disk, who, "anew", 100.0, may_join=False).who
    found = salvage(disk)
    assert found == replace(sound, aside="damaged-100-")
    assert salvage(disk) == found, "to look changes nothing"
    assert make_sole_voter(disk, found, who.id, at_s=7.0) == sound.last[0]
    again = salvage(disk)
    assert (again.aside, again.flaw) == ("", ""), "what goes on ends later"
    assert again.entries[: len(found.entries)] == found.entries
    go_on(cluster, disk, who.id)
    state = cluster.leader.peer.state
    assert not state.members
    assert {"a"} <= state.removed <= set("abc"), "whom the sound part knows cannot come back"
    member = dict(cluster.leader.peer.identity.member)
    assert "ok" in cluster.ask(who.id, "join", member=member)
    assert set(cluster.leader.peer.state.members) == {"anew"}


@pytest.mark.parametrize(
    ("received", "is_newer"),
    [((1, 2), False), ((1,) * 9, False), ((1, 1, 1, 2, 2, 2), True), ((1, 1, 3), True)],
)
def test_of_two_logs_the_one_that_ends_later_is_kept(
    received: tuple[int, ...], is_newer: bool
) -> None:
    """It had joined anew and the others had begun to send it theirs, by terms, when they were lost.

    As in Raft's votes: the later last term, and of equal ones the longer log.
    """
    disk = MemoryDisk()
    terms = (1, 1, 1, 2, 2)
    written(LogStore(disk), terms)
    set_log_aside(disk, 3.0)
    written(LogStore(disk), received)
    found = salvage(disk)
    assert tuple(entry.term for entry in found.entries) == (received if is_newer else terms)
    assert bool(found.aside) is not is_newer
    make_sole_voter(disk, found, "a", at_s=5.0)
    assert salvage(disk).entries[: len(found.entries)] == found.entries


def written(store: LogStore, terms: tuple[int, ...]) -> None:
    entries = [Entry(1, terms[0], EntryType.CONF_CHANGE, ConfChange().encode())]
    entries += [Entry(at, term, EntryType.NORMAL, b"") for at, term in enumerate(terms[1:], 2)]
    store.save(HardState(terms[-1], None, 1), entries, must_sync=True)


def test_nothing_to_recover_is_said_so() -> None:
    with pytest.raises(P2PError, match="no log"):
        salvage(MemoryDisk())


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_two_of_three_real_peers_are_lost_for_good() -> None:
    with LocalCluster(("--slots", "0")) as cluster:
        cluster.start()
        cluster.start_many(2)
        wait_for(cluster, "status", settled(3))
        job = ask(cluster, "submit", task="digits", peers_min=9)["job"]
        leader = leader_of(cluster)
        survivor = next(peer for peer in cluster.peers if peer is not leader)
        command = ("recover", "--force-new-cluster", "--data-dir", str(survivor.told["data_dir"]))
        assert "in use" in p2pnode(cluster, *command, "--yes").err
        for peer in cluster.peers:
            peer.kill()
            if peer is not survivor:
                shutil.rmtree(Path(peer.told["data_dir"]))
        refused = p2pnode(cluster, *command)
        assert refused.code == 2
        assert "--yes" in refused.err
        done = p2pnode(cluster, *command, "--yes", "--json")
        assert done.code == 0, done.err
        assert done.json["peer"] == survivor.id
        assert "is lost, without a trace" in done.err
        (back,) = cluster.restart(survivor)
        assert back.id == survivor.id
        cluster.start_many(2)
        told: dict[str, Any] = wait_for(cluster, "status", settled(3))
        assert len(told["peers"]) == 3
        assert [each["id"] for each in ask(cluster, "jobs")["jobs"]] == [job]
