"""Real peers: a log that is cut, and a joiner that gets the state although it dies on the way."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgpack
import pytest

from consensus.messages import EntryType
from p2p.client import Client
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.processes import open_peer
from p2p.replicated.apply import apply
from p2p.replicated.reader import from_chunks
from p2p.replicated.store import Store
from p2p.storage.disk import Folder
from p2p.storage.log_recovery import SNAPSHOT_PART, SNAPSHOT_PREFIX
from p2p.storage.log_store import LogStore
from p2p.storage.snapshots import DEFAULT_POLICY
from tests.cluster_fixtures import WAIT_S, settled, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
COORDINATION_ONLY = ("--slots", "0")
VALUE_BYTES = 60_000


def test_a_joiner_killed_in_the_middle_of_its_snapshot_ends_equal() -> None:
    values = DEFAULT_POLICY.every_bytes * 5 // 4 // VALUE_BYTES
    with LocalCluster(COORDINATION_ONLY) as cluster:
        cluster.start()
        cluster.start_many(2)
        wait_for(cluster, "status", settled(3))
        asyncio.run(put(cluster, range(values)))
        folders = [Path(peer.told["data_dir"]) for peer in cluster.peers]
        await_(lambda: all(list(folder.glob(f"{SNAPSHOT_PREFIX}0*")) for folder in folders))

        part = cluster.folder / "peer-4" / SNAPSHOT_PART
        process = open_peer(
            joining(cluster, part.parent), cluster.folder / "killed.log", cluster.environment
        )
        await_(lambda: size_of(part) > DEFAULT_POLICY.every_bytes / 4)
        process.kill()
        process.communicate()
        assert size_of(part) < DEFAULT_POLICY.every_bytes, "it was killed in the middle"

        cluster.start(data_dir=part.parent)
        asyncio.run(put(cluster, range(5)))
        told = wait_for(cluster, "status", settled(4))
        for peer in cluster.peers:
            asyncio.run(has_applied(cluster, peer, told["cluster"]["applied_index"]))
        for peer in cluster.peers:
            peer.kill()
        stores = [store_on_disk(folder) for folder in (*folders, part.parent)]
        assert all(store == stores[0] for store in stores)
        assert len(stores[0]) == values


def joining(cluster: LocalCluster, folder: Path) -> list[str]:
    first = cluster.peers[0].told
    join = ["--join", first["address"], "--token-file", first["token_file"]]
    return ["--json", "--data-dir", str(folder), *COORDINATION_ONLY, *join]


async def has_applied(cluster: LocalCluster, peer: LocalPeer, index: int) -> None:
    client = Client([peer.address], cluster.key)
    try:
        while (await client.request("status"))["cluster"]["applied_index"] < index:
            await asyncio.sleep(0.02)
    finally:
        await client.close()


async def put(cluster: LocalCluster, numbers: range) -> None:
    client = cluster.client()
    try:
        for number in numbers:
            value = Random(number).randbytes(VALUE_BYTES)
            await client.request("put", key=f"k{number}", value=value)
    finally:
        await client.close()


def await_(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def store_on_disk(folder: Path) -> Store:
    """What a peer would start from: its snapshot, and the entries behind it."""
    disk = Folder(folder)
    try:
        log = LogStore(disk)
        meta, storage = log.snapshot_meta, log.storage
        assert meta.index > 0
        state = from_chunks(log.snapshot_chunks())
        for entry in storage.entries(meta.index + 1, storage.last_index() + 1, 1 << 62):
            if entry.type is EntryType.NORMAL and entry.data:
                state, _ = apply(state, msgpack.unpackb(entry.data))
    finally:
        disk.close()
    return state.store
