"""A model that real peers trained is served, and peers are killed in the middle of an answer."""

import asyncio
from typing import Any

from p2p.client import Client
from p2p.generation import Generation
from p2p.local_cluster import LocalCluster, LocalPeer
from tests.cluster_fixtures import p2pnode, wait_end, wait_for

SMALL = [f"--set={name}" for name in ("width=32", "layers=1", "heads=2", "context=512")]
ASKED: dict[str, Any] = {"max_tokens": 450, "temperature": 1.0, "seed": 5}
IDS_BETWEEN_DEATHS = 40


def trained_and_served(cluster: LocalCluster) -> None:
    steps = ["--steps", "2", "--peers", "2:2", "--global-batch", "12"]
    job = p2pnode(cluster, "submit", "textgpt", *SMALL, *steps, "--json").json["job"]
    assert wait_end(cluster, job)["state"] == "finished"
    done = p2pnode(cluster, "serve", f"job:{job}", "--name", "tales", "--replicas", "2:2")
    assert done.code == 0, done.err
    wait_for(cluster, "models", lambda told: len(told["models"][0]["replicas"]) == 2)


def without_the_dead(cluster: LocalCluster) -> None:
    """Peers that earlier tests killed are removed, as `verify` says."""
    for peer in p2pnode(cluster, "status", "--json").json["peers"]:
        if peer["state"] == "dead":
            done = p2pnode(cluster, "remove", peer["name"])
            assert done.code == 0, done.err
    wait_for(cluster, "status", lambda told: all(p["state"] == "alive" for p in told["peers"]))


def front_of(cluster: LocalCluster) -> LocalPeer:
    """The peer that has no replica."""
    told = wait_for(cluster, "models", lambda told: told["models"])["models"][0]
    hosts = {replica["peer"] for replica in told["replicas"]}
    return next(peer for peer in cluster.peers if peer.is_running and peer.id not in hosts)


def answer_while_peers_die(
    cluster: LocalCluster, front: LocalPeer
) -> tuple[str, Generation, list[LocalPeer]]:
    """The peer of the replica is killed after some ids, the one that was asked after some more."""
    others = [peer.address for peer in cluster.peers if peer.is_running and peer is not front]

    async def main() -> tuple[str, Generation, list[LocalPeer]]:
        client = Client([front.address, *others], cluster.key, 20.0)
        asked = client.generate("def main", model="tales", **ASKED)
        text = ""
        killed: list[LocalPeer] = []
        async for piece in asked:
            text += piece
            if len(asked.told_ids) >= IDS_BETWEEN_DEATHS * (len(killed) + 1) and len(killed) < 2:
                running = [peer for peer in cluster.peers if peer.is_running]
                host = next(p for p in running if p.id == asked.answering["peer"])
                killed.append(front if killed else host)
                killed[-1].kill()
        await client.close()
        return text, asked, killed

    return asyncio.run(main())


def undisturbed(cluster: LocalCluster, front: LocalPeer) -> str:
    """By the iterator for code without an event loop."""
    client = Client([front.address], cluster.key, 20.0)
    text = "".join(client.generate("def main", model="tales", **ASKED))
    asyncio.run(client.close())
    return text
