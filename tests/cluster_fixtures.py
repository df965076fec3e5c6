"""Real peers for tests: started, asked and ended as a user would, in a temporary folder."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.replicated.job_states import FINAL
from tests.command_forks import forks

WAIT_S = 90.0


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out)
        return told


def p2pnode(cluster: LocalCluster, *arguments: str, **environment: str) -> Ended:
    """Run a command to its end, as from a shell that finds this cluster's peers."""
    return Ended(*forks().run(arguments, {**cluster.environment, **environment}, WAIT_S))


def ask(cluster: LocalCluster, verb: str, /, **args: Any) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        client = cluster.client()
        try:
            return await client.request(verb, **args)
        finally:
            await client.close()

    return asyncio.run(main())


def wait_for(
    cluster: LocalCluster, verb: str, is_so: Callable[[dict[str, Any]], Any], /, **args: Any
) -> dict[str, Any]:
    """Ask until the answer is so; fails with the last answer and the peers' last words."""

    async def main() -> dict[str, Any]:
        client = cluster.client()
        deadline_s = time.monotonic() + WAIT_S
        answer: dict[str, Any] = {}
        try:
            while time.monotonic() < deadline_s:
                answer = await client.request(verb, **args)
                if is_so(answer):
                    return answer
                await asyncio.sleep(0.05)
        finally:
            await client.close()
        logs = "\n".join(f"-- {peer.log.name}\n{peer.log.read_text()}" for peer in cluster.peers)
        raise AssertionError(f"{verb} {args} did not come true in {WAIT_S} s: {answer}\n{logs}")

    return asyncio.run(main())


def wait_job(
    cluster: LocalCluster, job: str, is_so: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    return wait_for(cluster, "job", is_so, job=job)


def wait_end(cluster: LocalCluster, job: str) -> dict[str, Any]:
    return wait_job(cluster, job, lambda told: told["state"] in FINAL)


def settled(count: int) -> Callable[[dict[str, Any]], bool]:
    """A status in which `count` peers live and as many of them vote as should."""

    def is_so(status: dict[str, Any]) -> bool:
        alive = [peer for peer in status["peers"] if peer["state"] == "alive"]
        votes = [peer for peer in alive if peer["role"] in ("leader", "voter")]
        wanted = min(count, 5) - (1 - min(count, 5) % 2)
        return len(alive) == count and len(votes) == wanted and bool(status["cluster"]["leader"])

    return is_so


def leader_of(cluster: LocalCluster) -> LocalPeer:
    status = wait_for(cluster, "status", lambda told: told["cluster"]["leader"])
    leader = status["cluster"]["leader"]
    return next(peer for peer in cluster.peers if peer.is_running and peer.id == leader)


def follower_of(cluster: LocalCluster) -> LocalPeer:
    leader = leader_of(cluster)
    return next(peer for peer in cluster.peers if peer.is_running and peer is not leader)


def is_exact(told: dict[str, Any]) -> bool:
    """The ledger of a finished job: every sample of every epoch once."""
    return bool(told["ledger"]) and all(
        row["repeated"] == 0 and row["missing"] == 0 and row["distinct"] == row["samples"]
        for row in told["ledger"]
    )
