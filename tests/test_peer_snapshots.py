"""Whole peers and snapshots: who is far behind gets the state, whoever dies meanwhile."""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from p2p.raft_host import LEARNER_HEARTBEAT_TICKS, TICK_S
from p2p.storage.disk import DiskFailed
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_recovery import SNAPSHOT_NEW, SNAPSHOT_PREFIX
from p2p.storage.snapshots import SnapshotPolicy
from p2p.wire.envelope import decode
from p2p.wire.network import Route
from tests.peer_fakes import CLUSTER
from tests.peer_twins import Twin, TwinCluster, grown

AT_EVERY_STEP = SnapshotPolicy(every_entries=1, keep_entries=0, slice_chunks=1)
SOON = SnapshotPolicy(every_entries=20, keep_entries=0)
VALUE_BYTES = 60_000


@dataclass
class Wiretap:
    """What of a snapshot went to whom, and when the leader was heard."""

    cluster: TwinCluster
    chunk_bytes: dict[str, int] = field(default_factory=dict)
    heard_s: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._post = self.cluster.hub.post
        self.cluster.hub.post = self.post  # type: ignore[method-assign]

    def post(self, sender: str, to: str, data: bytes, route: Route | None) -> bool:
        envelope = decode(data, CLUSTER)
        if envelope.kind == "snapshot":
            size = len(envelope.body.get("data", b""))
            self.chunk_bytes[to] = self.chunk_bytes.get(to, 0) + size
        elif envelope.kind == "raft":
            self.heard_s.setdefault(to, []).append(self.cluster.clock.now_s)
        return self._post(sender, to, data, route)


def put(cluster: TwinCluster, count: int, size: int = VALUE_BYTES, first: int = 0) -> None:
    """So many values, one after the other, through the leader."""
    for number in range(first, first + count):
        value = Random(number).randbytes(size)
        told = cluster.ask(cluster.leader.name, "put", key=f"k{number}", value=value)
        assert told == {**told, "ok": {}}


def compacted(peers: int, values: int, policy: SnapshotPolicy = SOON) -> TwinCluster:
    """A cluster whose leader no longer has the beginning of its log."""
    cluster = grown(peers, snapshots=policy)
    put(cluster, values)
    cluster.until(lambda: all(first_index(twin) > 1 for twin in cluster.live()), "compaction")
    cluster.run(1.0)  # one that is under way is finished
    metas = {twin.peer.parts.store.snapshot_meta for twin in cluster.live()}
    assert len(metas) == 1, "all take theirs after the same entry"
    return cluster


def first_index(twin: Twin) -> int:
    return twin.peer.parts.store.storage.first_index()


def equal(cluster: TwinCluster) -> None:
    cluster.until(cluster.agreed, "agreement")
    states = [twin.peer.state for twin in cluster.live()]
    assert all(state == states[0] for state in states)


def test_a_joiner_gets_the_state_instead_of_the_log() -> None:
    cluster = compacted(3, 22)
    joiner = cluster.join("d")
    equal(cluster)
    assert first_index(joiner) > 1
    assert len(joiner.peer.state.store) == 22


def test_all_come_back_from_their_snapshots() -> None:
    cluster = compacted(3, 25)
    before = cluster.leader.peer.state.store
    disks = {twin.name: cluster.kill(twin.name) for twin in cluster.live()}
    for name, disk in disks.items():
        twin = cluster.start(name, disk)
        assert twin.peer.raft.applied >= twin.peer.parts.store.snapshot_meta.index > 0
    cluster.until(cluster.has_leader, "a leader")
    equal(cluster)
    assert cluster.leader.peer.state.store == before


def test_a_follower_that_slept_through_it() -> None:
    cluster = compacted(3, 20)
    sleeper = next(twin for twin in cluster.live() if twin is not cluster.leader)
    disk = cluster.kill(sleeper.name)
    put(cluster, 110, size=100)
    tap = Wiretap(cluster)
    back = cluster.join(sleeper.name, disk)
    equal(cluster)
    assert tap.chunk_bytes[back.network.address] > 0
    put(cluster, 3)
    equal(cluster)


def test_a_request_that_waits_on_a_peer_that_is_overtaken_is_answered() -> None:
    cluster = compacted(3, 20)
    slow = next(twin for twin in cluster.live() if twin is not cluster.leader)
    cluster.isolate(slow.name)
    put(cluster, 110, size=100)
    asked = cluster.send(slow.name, "submit", task="digits")
    cluster.run(0.05)
    cluster.heal()
    cluster.until(lambda: asked in cluster.replies, "an answer")
    equal(cluster)


def transfer_begun(cluster: TwinCluster, name: str) -> tuple[Twin, Wiretap, int]:
    """A joiner that has about half of the snapshot; the snapshot's size."""
    tap = Wiretap(cluster)
    joiner = cluster.start(name, MemoryDisk())
    cluster.send(cluster.leader.name, "join", member=dict(joiner.peer.identity.member))
    size = cluster.leader.peer.parts.store.snapshot_bytes
    address = joiner.network.address
    cluster.until(lambda: tap.chunk_bytes.get(address, 0) > size / 2, "half of the transfer")
    assert tap.chunk_bytes[address] < size
    return joiner, tap, size


def test_the_next_leader_goes_on_where_the_last_one_died() -> None:
    cluster = compacted(3, 40)
    joiner, tap, size = transfer_begun(cluster, "d")
    cluster.kill(cluster.leader.name)
    cluster.until(cluster.has_leader, "a leader")
    cluster.until(lambda: joiner.peer.is_known, "d is known")
    equal(cluster)
    assert tap.chunk_bytes[joiner.network.address] < 1.3 * size, "nothing is sent twice"


def test_a_receiver_that_was_killed_goes_on_where_it_was() -> None:
    cluster = compacted(3, 40)
    joiner, tap, size = transfer_begun(cluster, "d")
    disk = cluster.kill("d")
    cluster.run(0.3)
    back = cluster.start("d", disk)
    cluster.until(lambda: back.peer.is_known or ask_to_join(cluster, back), "d is known")
    equal(cluster)
    assert tap.chunk_bytes[joiner.network.address] < 1.3 * size


def ask_to_join(cluster: TwinCluster, twin: Twin) -> bool:
    if not twin.peer.state.members and round(cluster.clock.now_s * 100) % 30 == 0:
        cluster.send(cluster.leader.name, "join", member=dict(twin.peer.identity.member))
    return False


def test_heartbeats_do_not_wait_for_a_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.storage.snapshot_sender.PACE_S", 0.2)
    cluster = compacted(3, 40)
    joiner, tap, size = transfer_begun(cluster, "d")
    others = [twin for twin in cluster.live() if twin is not cluster.leader]
    heard_s = {twin.name: [cluster.clock.now_s] for twin in others}
    tap.heard_s = {twin.network.address: heard_s[twin.name] for twin in others}
    cluster.until(lambda: tap.chunk_bytes[joiner.network.address] >= size, "the transfer")
    for times_s in heard_s.values():
        times_s.append(cluster.clock.now_s)
        assert times_s[-1] - times_s[0] > 1.0
        gaps_s = [after - before for before, after in pairwise(times_s)]
        assert max(gaps_s) < LEARNER_HEARTBEAT_TICKS * TICK_S + 0.06
    equal(cluster)


def test_a_joiner_catches_up_while_commands_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many of them during one transfer as make the next snapshot due: one is sent, not two."""
    monkeypatch.setattr("p2p.storage.snapshot_sender.PACE_S", 0.06)
    cluster = compacted(3, 40)
    joiner, tap, size = transfer_begun(cluster, "d")
    number = 0

    def is_level() -> bool:
        nonlocal number
        number += 1
        cluster.send(cluster.leader.name, "put", key="k", value=b"%d" % number)
        behind = cluster.leader.peer.raft.applied - joiner.peer.raft.applied
        return joiner.peer.is_known and behind < 10

    cluster.until(is_level, "the joiner is level", 5.0)
    assert number > SOON.every_entries
    assert tap.chunk_bytes[joiner.network.address] == size
    equal(cluster)


def test_a_damaged_snapshot_is_replaced_and_the_joiner_gets_the_new_one() -> None:
    cluster = compacted(3, 40)
    disk = cluster.leader.disk
    name = next(name for name in disk.files if name.startswith(SNAPSHOT_PREFIX))
    damaged = bytearray(disk.files[name])
    damaged[len(damaged) // 2] ^= 1
    disk.overwrite(name, 0, bytes(damaged))
    joiner = cluster.join("d")
    equal(cluster)
    assert joiner.peer.parts.store.snapshot_meta.index > int(name.removeprefix(SNAPSHOT_PREFIX))


def test_a_disk_that_is_full_while_a_snapshot_is_taken_ends_the_peer_and_loses_nothing() -> None:
    policy = SnapshotPolicy(every_entries=20, keep_entries=0, slice_chunks=1)
    cluster = grown(3, snapshots=policy)
    follower = next(twin for twin in cluster.live() if twin is not cluster.leader)
    while SNAPSHOT_NEW not in follower.disk.files:
        put(cluster, 1, first=len(follower.peer.state.store))
    follower.disk.capacity_bytes = sum(map(len, follower.disk.files.values())) + VALUE_BYTES
    with pytest.raises(DiskFailed, match=rf"{SNAPSHOT_NEW}: no space"):
        cluster.run(1.0)
    follower.disk.capacity_bytes = None
    back = cluster.start(follower.name, cluster.kill(follower.name))
    cluster.until(lambda: back.peer.raft.status.leader, "it finds its leader")
    put(cluster, 30)
    equal(cluster)


def test_many_joiners_at_once() -> None:
    cluster = compacted(3, 20)
    names = [f"n{number}" for number in range(9)]
    for name in names:
        twin = cluster.start(name, MemoryDisk())
        cluster.send(cluster.leader.name, "join", member=dict(twin.peer.identity.member))
    cluster.until(lambda: all(cluster.twins[name].peer.is_known for name in names), "all known")
    equal(cluster)


@pytest.mark.parametrize("seed", range(3))
def test_a_snapshot_after_every_single_entry(seed: int) -> None:
    cluster = grown(3, seed, snapshots=AT_EVERY_STEP)
    put(cluster, 10, size=1_000)
    cluster.join("d")
    cluster.kill(cluster.leader.name)
    cluster.until(cluster.has_leader, "a leader")
    put(cluster, 5, size=1_000)
    equal(cluster)
    assert all(first_index(twin) > 1 for twin in cluster.live())
