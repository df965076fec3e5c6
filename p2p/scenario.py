"""A demonstration scenario: real peers, real data, real kills, and a verdict on the promise.

The verdict compares the disturbed run with an undisturbed one of a single peer. A scenario is one
function that disturbs a running job; a new one = one function and one line in SCENARIOS.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.replicated.state import FINAL

ACCURACY_LEAST = 0.95
JOB_TIMEOUT_S = 300.0
POLL_S = 0.1

# Long enough that a fresh peer, which first imports torch, still has much to do.
JOB = {"task": "digits", "epochs": 30}

Say = Callable[[str], None]


@dataclass
class Stage:
    """What a scenario works on, and what it notes for the verdict."""

    cluster: LocalCluster
    client: Client
    job: str
    say: Say
    killed: list[LocalPeer] = field(default_factory=list)
    added: list[LocalPeer] = field(default_factory=list)

    async def wait_for_step(self, share: float) -> dict[str, Any]:
        """Wait until that share of all steps is done; returns the job."""
        return await wait_until(
            self.client,
            self.job,
            lambda told: (
                told["state"] == "running" and told["step"] >= share * (told["steps_total"] or 1e9)
            ),
        )


async def wait_until(
    client: Client, job: str, is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Poll a job until it is so, or has ended. Raises P2PError when it failed or takes too long."""
    deadline_s = time.monotonic() + JOB_TIMEOUT_S
    while time.monotonic() < deadline_s:
        told = await client.request("job", job=job)
        if is_so(told):
            return told
        if told["state"] in FINAL:
            if told["state"] != "finished":
                raise P2PError(f"the job {told['state']}: {told['reason']}")
            return told
        await asyncio.sleep(POLL_S)
    raise P2PError(f"the job did not get there within {JOB_TIMEOUT_S:g} s")


async def kill_leader_and_add(stage: Stage) -> None:
    """kill -9 of the leader after a quarter of the steps; a fresh peer joins soon after."""
    told = await stage.wait_for_step(1 / 4)
    status = await stage.client.request("status")
    leader = status["cluster"]["leader"]
    victim = next(peer for peer in stage.cluster.peers if peer.id == leader)
    stage.say(f"kill -9 {victim.told['name']}, the leader, at step {told['step']}")
    victim.kill()
    stage.killed.append(victim)
    told = await stage.wait_for_step(1 / 3)
    stage.say(f"a fresh peer joins at step {told['step']}")
    # In a thread: the join takes a second, and progress shall go on being shown.
    newcomer = await asyncio.to_thread(stage.cluster.start, "--slots", "1")
    stage.added.append(newcomer)


SCENARIOS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "kill-and-add": kill_leader_and_add,
}


async def reference_hash(say: Say) -> str:
    """The state hash of an undisturbed run of one peer."""
    with LocalCluster() as cluster:
        cluster.start()
        client = cluster.client()
        try:
            job = (await client.request("submit", **JOB))["job"]
            watching = asyncio.ensure_future(show_progress(client, job, say))
            told = await wait_until(client, job, lambda told: told["state"] in FINAL)
            await watching
            return str(told["state_hash"])
        finally:
            await client.close()


async def show_progress(client: Client, job: str, say: Say) -> None:
    """A line about once a second while the job runs."""
    last = None
    while True:
        told = await client.request("job", job=job)
        line = (
            f"step {told['step']:>3}/{told['steps_total'] or '?'}  {told['state']}"
            f"  {len(told['members'])} peer{'s'[: len(told['members']) != 1]}"
            + (f"  loss {told['loss']:.4f}" if told["loss"] is not None else "")
            + (f"  accuracy {told['metrics']['accuracy']:.4f}" if told["metrics"] else "")
        )
        if line != last:
            say(line)
            last = line
        if told["state"] in FINAL:
            return
        await asyncio.sleep(1.0)


def verdict(stage: Stage, told: dict[str, Any], reference: str) -> dict[str, Any]:
    """The scenario's report: what happened, and whether each part of the promise held."""
    repeated = sum(row["repeated"] for row in told["ledger"])
    missing = sum(row["missing"] for row in told["ledger"])
    trained = {member for made in told["generations"] for member in made["members"]}
    accuracy = told["metrics"].get("accuracy", 0.0)
    checks = {
        "finished": told["state"] == "finished",
        "accuracy": accuracy >= ACCURACY_LEAST,
        "killed": bool(stage.killed),
        "newcomers_trained": all(peer.id in trained for peer in stage.added),
        "no_sample_repeated": bool(told["ledger"]) and repeated == 0,
        "no_sample_missing": bool(told["ledger"]) and missing == 0,
        "equal_weights": told["state_hash"] == reference,
    }
    return {
        "schema": 1,
        "ok": all(checks.values()),
        "checks": checks,
        "accuracy": accuracy,
        "killed": [peer.id for peer in stage.killed],
        "added": [peer.id for peer in stage.added],
        "changes": [
            {
                "reason": made["reason"],
                "stall_seconds": made["stall_seconds"],
                "steps_repeated": made["steps_repeated"],
            }
            for made in told["generations"][1:]
        ],
        "samples_repeated": repeated,
        "samples_missing": missing,
        "epochs": len(told["ledger"]),
        "steps": told["step"],
        "state_hash": told["state_hash"],
        "reference_hash": reference,
    }
