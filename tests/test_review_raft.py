"""What a hostile reader of the whole path of a command found, from the client to the disk."""

from functools import partial

import msgpack
import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.config import RaftConfig
from consensus.frames import encode_frame
from consensus.messages import Entry, HardState, Message, MessageType
from p2p.storage.disk import Unreadable
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_recovery import SNAPSHOT_PART
from p2p.storage.log_store import LogDamaged, LogStore
from p2p.storage.snapshot_file import META
from p2p.storage.snapshot_transfer import Chunk
from p2p.wire.envelope import Envelope, encode
from p2p.wire.network import Route
from tests.peer_fakes import CLUSTER
from tests.peer_twins import CLIENT, grown
from tests.test_peer_snapshots import equal


def test_a_snapshot_without_its_data_is_no_message() -> None:
    """Only who holds the whole file may take MsgSnap into the core."""
    cluster = grown(3)
    leader = cluster.leader
    follower = next(twin for twin in cluster.live() if twin is not leader)
    status = leader.peer.raft.status
    meta = SnapshotMeta(status.commit + 50, status.term, ConfState(("a", "b", "c")))
    snap = Message(MessageType.SNAP, follower.name, leader.name, status.term, snapshot=meta)
    address = leader.peer.identity.member["address"]
    body = {"address": address, "messages": [snap.to_wire()]}
    dropped = follower.peer.mail.dropped
    follower.peer.on_message(encode(Envelope(CLUSTER, leader.name, "i", "raft", body)), None)
    cluster.run(0.2)
    assert follower.peer.mail.dropped == dropped + 1
    assert "ok" in cluster.ask(follower.name, "put", key="k", value=b"v")
    equal(cluster)


def test_planners_wait_while_too_much_waits_for_a_majority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even the leader's own commands get in then; that must not end it."""
    small = partial(RaftConfig, max_uncommitted_bytes=1)
    monkeypatch.setattr("p2p.raft_host.RaftConfig", small)
    cluster = grown(3)
    assert "ok" in cluster.ask(cluster.leader.name, "submit", task="digits", peers_min=1)
    gone = next(twin for twin in cluster.live() if not twin.peer.raft.is_leader)
    cluster.kill(gone.name)
    cluster.until(
        lambda: cluster.leader.peer.state.members[gone.name].state == "dead", "it is dead"
    )


def test_an_installed_snapshot_that_rots_under_a_longer_log_is_noticed() -> None:
    """Its entries were acknowledged: a log that never led there must not take their place."""
    sender, disk = LogStore(MemoryDisk()), MemoryDisk()
    sender.save(HardState(5, "b", 20), [Entry(n, 5) for n in range(1, 21)], must_sync=True)
    meta = SnapshotMeta(20, 5, ConfState(("a", "b", "c")))
    file = sender.begin_snapshot(meta)
    file.write(b"state" * 100)
    file.finish()
    store = LogStore(disk)
    # It led in term 4 and nobody took these; then it voted in term 5.
    store.save(HardState(4, "a", 2), [Entry(n, 4) for n in range(1, 31)], must_sync=True)
    store.save(HardState(5, "b", 2), [], must_sync=True)
    incoming = store.receive_snapshot(meta, sender.snapshot_bytes)
    incoming.write(0, sender.read_snapshot(0, sender.snapshot_bytes))
    incoming.complete()
    store.install(meta)
    store.save(HardState(5, "b", 20), [], must_sync=False)  # and then it acknowledges entry 20
    name = f"snapshot-{meta.index:016d}"
    disk.flip_bit(name, 8 * 200)
    with pytest.raises(LogDamaged):
        LogStore(disk)


def test_a_rotten_snapshot_is_written_anew_at_the_same_entry() -> None:
    disk, meta = MemoryDisk(), SnapshotMeta(20, 5, ConfState(("a",)))
    name = f"snapshot-{meta.index:016d}"
    store = LogStore(disk)
    store.save(HardState(5, "b", 20), [Entry(n, 5) for n in range(1, 21)], must_sync=True)
    for _ in range(2):
        file = store.begin_snapshot(meta)
        file.write(b"state" * 100)
        file.finish()
        assert store.snapshot_bytes == disk.size(name)
        assert b"".join(LogStore(disk.copy()).snapshot_chunks()) == b"state" * 100
        disk.truncate(name, 300)
        assert store.read_snapshot(0, 1_000) == disk.read(name)


def test_who_was_removed_cannot_send_a_snapshot_either() -> None:
    cluster = grown(3)
    leader = cluster.leader
    gone = next(twin for twin in cluster.live() if twin is not leader)
    assert "ok" in cluster.ask(leader.name, "remove", peer=gone.name)
    cluster.until(lambda: gone.name not in leader.peer.raft.status.voters, "it votes no more")
    cluster.kill(gone.name)
    cluster.run(0.5)
    term, dropped = leader.peer.raft.status.term, leader.peer.mail.dropped
    meta = SnapshotMeta(leader.peer.raft.applied, term, ConfState(("a", "b", "c")))
    snap = Message(MessageType.SNAP, leader.name, gone.name, term + 5, snapshot=meta)
    chunk = Chunk(snap, 1_000, 0, b"").to_wire()
    leader.peer.on_message(encode(Envelope(CLUSTER, gone.name, "i", "snapshot", chunk)), None)
    cluster.run(0.1)
    assert leader.peer.raft.is_leader
    assert leader.peer.raft.status.term == term
    assert leader.peer.mail.dropped == dropped + 1


def test_a_part_of_a_snapshot_that_cannot_be_read_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the peer would end at every start, as soon as the leader sends."""
    disk, meta = MemoryDisk(), SnapshotMeta(20, 5, ConfState(("a",)))
    frame = encode_frame(META, 0, msgpack.packb([1, meta.to_wire()]))
    LogStore(disk).receive_snapshot(meta, 1_000).write(0, frame)

    def read(name: str, offset: int = 0, count: int | None = None) -> bytes | None:
        if name == SNAPSHOT_PART:
            raise Unreadable(f"cannot read {name}: input/output error")
        return MemoryDisk.read(disk, name, offset, count)

    monkeypatch.setattr(disk, "read", read)
    assert LogStore(disk).receive_snapshot(meta, 1_000).offset == 0
    assert disk.size(SNAPSHOT_PART) is None


def test_a_new_leader_refuses_nothing_before_it_knows_what_was_agreed() -> None:
    cluster = grown(3)
    post, answered, mended = cluster.hub.post, False, False

    def no_appends_once_answered(sender: str, to: str, data: bytes, route: Route | None) -> bool:
        nonlocal answered
        answered |= to == CLIENT
        return (answered and not mended and b"MsgApp" in data) or post(sender, to, data, route)

    cluster.hub.post = no_appends_once_answered  # type: ignore[method-assign]
    job = cluster.ask(cluster.leader.name, "submit", task="digits", peers_min=9)["ok"]["job"]
    cluster.kill(cluster.leader.name)
    assert not any(twin.peer.state.jobs for twin in cluster.live())
    cluster.until(cluster.has_leader, "a leader that cannot commit yet")
    asked = cluster.send(cluster.leader.name, "pause", job=job)
    cluster.run(0.1)
    mended = True
    cluster.until(lambda: asked in cluster.replies, "an answer")
    assert cluster.replies[asked]["ok"] == {"job": job, "state": "paused"}
