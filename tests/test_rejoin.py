"""A damaged or lost log: the peer comes back under a new id, is repaired, and votes again."""

import contextlib
import errno
import json
from dataclasses import asdict, replace
from random import Random

import pytest

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.storage.data_dir import IDENTITY_NAME, Remembered
from p2p.storage.disk import DiskFailed
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.rejoin import ASIDE, KEPT_ASIDE, Opened, open_log
from tests.cluster_fixtures import ask, leader_of, p2pnode, settled, wait_for
from tests.peer_fakes import CLUSTER
from tests.peer_twins import TwinCluster, grown

WHO = Remembered("c", "name-c", "127.0.0.1:7003", CLUSTER, others=("127.0.0.1:7001",))


def flip(disk: MemoryDisk) -> None:
    """One bit in the middle of the newest segment."""
    name = max(name for name in disk.names() if name.startswith("wal-"))
    data = bytearray(disk.read(name) or b"")
    data[len(data.rstrip(b"\0")) // 2] ^= 4
    disk.replace(name, bytes(data))


def reopened(
    disk: MemoryDisk, who: Remembered = WHO, new_id: str = "c2", at_s: float = 9.0
) -> Opened:
    return open_log(disk, who, new_id, at_s, may_join=False)


def cluster_without_c() -> tuple[TwinCluster, MemoryDisk]:
    cluster = grown(3)
    assert "ok" in cluster.ask("a", "submit", task="digits", peers_min=9)
    cluster.until(cluster.agreed, "agreement")
    return cluster, cluster.kill("c")


def test_a_sound_log_is_opened_under_its_own_id() -> None:
    _, disk = cluster_without_c()
    opened = reopened(disk)
    assert (opened.who, opened.note) == (WHO, "")
    assert not opened.store.is_new


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_it_comes_back_as_a_new_peer_and_votes_again(how: str) -> None:
    cluster, disk = cluster_without_c()
    if how == "damaged":
        flip(disk)
    else:
        for name in disk.names():
            disk.remove(name)
    opened = reopened(disk)
    assert opened.store.is_new
    assert how.split()[0] in opened.note
    told = json.loads(disk.read(IDENTITY_NAME) or b"")
    assert (told["id"], told["replaces"]) == ("c2", ["c"])
    twin = cluster.start("c2", disk)
    member = dict(twin.peer.identity.member)
    voters = []
    leader = cluster.leader.name
    answer = cluster.ask(leader, "join", member=member, replaces=["c"])
    assert "ok" in answer

    def is_repaired() -> bool:
        voters.append(frozenset(cluster.voters()))
        return cluster.voters() == {"a", "b", "c2"}

    cluster.until(is_repaired, "three voters again")
    assert min(map(len, voters)) == 3, "nobody gave up a vote meanwhile"
    cluster.until(cluster.agreed, "agreement")
    state = cluster.leader.peer.state
    assert state.removed == {"c"}
    assert set(state.members) == {"a", "b", "c2"}
    assert cluster.twins["c2"].peer.state.jobs.keys() == state.jobs.keys()
    kinds = [event.kind for event in state.events]
    assert "peer-replaced" in kinds
    assert "voters" in kinds
    cluster.until(
        lambda: "c" not in cluster.leader.peer.raft.status.learners, "the old id is forgotten"
    )


def test_a_start_that_was_cut_short_is_taken_up_again() -> None:
    _, disk = cluster_without_c()
    flip(disk)
    damaged = {name: disk.read(name) or b"" for name in disk.names()}
    first = reopened(disk)
    for name in disk.names():  # the identity was written, the files were not moved
        if name.startswith(ASIDE):
            disk.remove(name)
    for name, data in damaged.items():
        disk.replace(name, data)
    second = reopened(disk, first.who, "c3")
    assert second.who.replaces == ("c", "c2")
    third = reopened(disk, second.who, "c4")
    assert third.who == second.who, "not joined yet, but nothing was promised either"


def test_a_founder_that_is_killed_before_its_log_is_there_founds_again() -> None:
    founder = Remembered("a", "name-a", "127.0.0.1:7001", CLUSTER, founding=True)
    for step in range(100):
        disk = MemoryDisk()
        disk.put(IDENTITY_NAME, json.dumps(asdict(founder)).encode())
        disk.fail(step, errno.EIO)
        with contextlib.suppress(DiskFailed):
            reopened(disk, founder)
            break
        for seed in range(4):
            after = disk.copy()
            after.power_cut(Random(seed))
            opened = reopened(after, recalled(after))
            assert (opened.who, opened.note) == (replace(founder, founding=False), "")
            assert opened.store.storage.last_index() == 1
    assert step > 3
    disk = disk.copy()
    assert not recalled(disk).founding
    for name in disk.names():
        if name != IDENTITY_NAME:
            disk.remove(name)
    with pytest.raises(P2PError, match="does not know where the others are"):
        reopened(disk, recalled(disk))  # now it was somebody


def recalled(disk: MemoryDisk) -> Remembered:
    told = json.loads(disk.read(IDENTITY_NAME) or b"")
    return Remembered(**{**told, **{name: tuple(told[name]) for name in ("replaces", "others")}})


def test_only_some_damaged_logs_are_kept() -> None:
    _, disk = cluster_without_c()
    who = WHO
    sound = {name: disk.read(name) or b"" for name in disk.names()}
    for attempt in range(KEPT_ASIDE + 3):
        for name, data in sound.items():
            disk.replace(name, data)
        flip(disk)
        who = replace(reopened(disk, who, f"id{attempt}", 95.0 + attempt).who, replaces=())
    kept = {name.split("-")[1] for name in disk.names() if name.startswith(ASIDE)}
    assert kept == {"98", "99", "100"}


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (replace(WHO, sole_voter=True), "recover --force-new-cluster"),
        (replace(WHO, others=()), "--join HOST:PORT"),
    ],
)
def test_it_refuses_when_nobody_could_repair_it(who: Remembered, said: str) -> None:
    _, disk = cluster_without_c()
    flip(disk)
    before = {name: disk.read(name) for name in disk.names()}
    with pytest.raises(P2PError, match=r"only voter|does not know") as refused:
        reopened(disk, who)
    assert said in str(refused.value)
    assert {name: disk.read(name) for name in disk.names()} == before


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_bit_flips_on_a_real_peers_disk() -> None:
    with LocalCluster(("--slots", "0", "--allow-faults")) as cluster:
        cluster.start_many(1)
        cluster.start_many(2)
        wait_for(cluster, "status", settled(3))
        job = ask(cluster, "submit", task="digits", peers_min=9)["job"]
        leader = leader_of(cluster)
        victim = next(peer for peer in cluster.peers if peer is not leader)
        assert p2pnode(cluster, "fault", "corrupt", victim.id).code == 0
        victim.kill()
        (back,) = cluster.restart(victim)
        assert back.id != victim.id
        assert "is damaged" in back.log.read_text()
        told = wait_for(cluster, "status", settled(3))
        assert {peer["id"] for peer in told["peers"]} == {
            peer.id for peer in cluster.peers if peer is not victim
        }
        assert [each["id"] for each in ask(cluster, "jobs")["jobs"]] == [job]
        events = ask(cluster, "events")["events"]
        assert any(event["kind"] == "peer-replaced" for event in events)
