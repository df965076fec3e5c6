"""One kill -9 in a running job, and what came of it. Real peers; used by tools.bench.recovery."""

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.replicated.job_states import FINAL

TIMEOUT_S = 120.0
POLL_S = 0.05
WATCH_S = 0.01  # after the kill: how often a client asks whether steps go on
VOTERS_MAX = 5

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: at this share of all steps, and this much later (to hit any part of a step)."""

    share: float
    later_s: float


@dataclass(slots=True)
class Outcome:
    """Of one kill. Seconds count from the kill, except `stall_s`. None = the job ended before."""

    who: str
    share: float
    step: int = 0  # the last one the cluster told of before the kill
    stall_s: float | None = None
    elected_s: float | None = None
    decided_s: float | None = None
    seen_s: float | None = None
    repeated: int = 0
    exact: bool = False
    state_hash: str = ""
    equal: bool = False
    others: list[str] = field(default_factory=list)  # further changes, which nobody asked for
    seconds: float = 0.0  # of the whole job


def moments(count: int, rng: random.Random) -> list[Moment]:
    """Spread over the run, in random order: one in each `count`-th of its middle 80 %."""
    shares = [0.05 + 0.8 * (at + rng.random()) / count for at in range(count)]
    rng.shuffle(shares)
    return [Moment(share, rng.uniform(0.0, 0.25)) for share in shares]


async def undisturbed(cluster: LocalCluster, spec: Told, patience_s: float = TIMEOUT_S) -> Told:
    """The job's last answer after a run in which nothing happens."""
    client = cluster.client()
    try:
        job = str((await client.request("submit", **spec))["job"])
        return await until(
            client, lambda told: told["state"] in FINAL, "job", patience_s=patience_s, job=job
        )
    finally:
        await client.close()


async def kill_one(
    cluster: LocalCluster, spec: Told, who: str, moment: Moment, rng: random.Random
) -> tuple[Outcome, LocalPeer]:
    """Run the job, kill a follower or the leader on the way; returns the victim as well.

    Raises P2PError when the job fails or hangs; keeps the peers' logs then.
    """
    outcome = Outcome(who, moment.share)
    living = [peer for peer in cluster.peers if peer.is_running]
    victim, survivor = await _choose(cluster, living, who, rng)
    client = Client([survivor.address], cluster.key, TIMEOUT_S)
    job = ""
    try:
        began_s = time.monotonic()
        job = str((await client.request("submit", **spec))["job"])
        ready = at_share(moment.share, len(living))
        before = await until(client, ready, "job", job=job)
        await asyncio.sleep(moment.later_s)
        seen = (await client.request("events", since=0))["events"]
        killed_s, killed_unix_s = time.monotonic(), time.time()
        victim.kill()
        goes_on = _goes_on(before["generation"], victim.id)
        await until(client, goes_on, "job", every_s=WATCH_S, job=job)
        outcome.seen_s = time.monotonic() - killed_s
        told = await until(client, lambda told: told["state"] in FINAL, "job", job=job)
        outcome.seconds = time.monotonic() - began_s
        events = (await client.request("events", since=seen[-1]["index"]))["events"]
        outcome.step = before["step"]
        _judge(outcome, told, before["generation"], victim.id)
        _date(outcome, events, killed_unix_s)
        if told["state"] != "finished":
            raise P2PError(f"the job {told['state']}: {told['reason']}")
    except P2PError as error:
        kept = await keep_logs(cluster, client, job)
        raise P2PError(f"{error} (logs kept in {kept})") from error
    finally:
        await client.close()
    return outcome, victim


async def until(
    client: Client,
    is_so: Callable[[Told], Any],
    verb: str,
    *,
    every_s: float = POLL_S,
    patience_s: float = TIMEOUT_S,
    **args: Any,
) -> Told:
    """Ask until the answer is so. Raises P2PError with the last answer when patience ends."""
    deadline_s = time.monotonic() + patience_s
    told: Told = {}
    while time.monotonic() < deadline_s:
        told = await client.request(verb, **args)
        if is_so(told):
            return told
        await asyncio.sleep(every_s)
    raise P2PError(f"{verb} hung for {patience_s:g} s: {json.dumps(told)[:2_000]}")


async def settle(cluster: LocalCluster, count: int) -> None:
    """Wait until `count` peers live, and as many of them vote as should."""
    wanted = min(count, VOTERS_MAX) - (1 - min(count, VOTERS_MAX) % 2)

    def is_so(told: Told) -> bool:
        alive = [peer for peer in told["peers"] if peer["state"] == "alive"]
        votes = [peer for peer in alive if peer["role"] in ("leader", "voter")]
        return len(alive) == count and len(votes) == wanted and bool(told["cluster"]["leader"])

    client = cluster.client(TIMEOUT_S)
    try:
        await until(client, is_so, "status")
    except P2PError as error:
        kept = await keep_logs(cluster, client, "")
        raise P2PError(f"{error} (logs kept in {kept})") from error
    finally:
        await client.close()


async def keep_logs(cluster: LocalCluster, client: Client, job: str) -> Path:
    """Copy what the peers said, and what they tell now, out of the cluster's folder."""
    kept = Path(tempfile.mkdtemp(prefix="p2p-bench-logs-"))
    for log in cluster.folder.rglob("*.log"):
        if log.is_file():
            name = "-".join(log.relative_to(cluster.folder).parts)
            shutil.copyfile(log, kept / name)
    client.timeout_s = 5.0
    questions: list[tuple[str, Told]] = [("status", {}), ("events", {"since": 0})]
    questions += [("job", {"job": job}), ("history", {"job": job})] if job else []
    for verb, args in questions:
        try:
            answer = await client.request(verb, **args)
        except P2PError as error:
            answer = {"error": str(error)}
        (kept / f"{verb}.json").write_text(json.dumps(answer, indent=1))
    return kept


def to_json(outcome: Outcome) -> Told:
    return asdict(outcome)


async def _choose(
    cluster: LocalCluster, living: list[LocalPeer], who: str, rng: random.Random
) -> tuple[LocalPeer, LocalPeer]:
    """The victim, and a survivor to ask."""
    client = cluster.client(TIMEOUT_S)
    try:
        leader = (await client.request("status"))["cluster"]["leader"]
    finally:
        await client.close()
    victim = rng.choice([peer for peer in living if (peer.id == leader) == (who == "leader")])
    return victim, rng.choice([peer for peer in living if peer is not victim])


def at_share(share: float, peers: int) -> Callable[[Told], bool]:
    def is_so(told: Told) -> bool:
        everybody = told["state"] == "running" and len(told["members"]) == peers
        far = told["step"] >= share * (told["steps_total"] or 1e9)
        return (everybody and far) or told["state"] in FINAL

    return is_so


def _after(told: Told, generation: int, victim: str) -> list[Told]:
    """Generations since that one which made a step, from the first without the victim on."""
    made = [one for one in told["generations"] if one["number"] > generation]
    while made and (victim in made[0]["members"] or made[0]["start_step"] is None):
        del made[0]
    return made


def _goes_on(generation: int, victim: str) -> Callable[[Told], bool]:
    return lambda told: told["state"] in FINAL or bool(_after(told, generation, victim))


def _judge(outcome: Outcome, told: Told, generation: int, victim: str) -> None:
    after = _after(told, generation, victim)
    outcome.state_hash = str(told["state_hash"])
    outcome.exact = bool(told["ledger"]) and all(
        row["repeated"] == 0 and row["missing"] == 0 and row["distinct"] == row["samples"]
        for row in told["ledger"]
    )
    outcome.repeated = sum(made["steps_repeated"] for made in after)
    if not after or after[0]["stall_seconds"] is None:
        outcome.seen_s = None  # the last step was done already: nobody waited
        return
    outcome.stall_s = after[0]["stall_seconds"]
    first = after[0]["number"]
    changes = [made for made in told["generations"] if made["number"] > generation]
    outcome.others = [made["reason"] for made in changes if made["number"] != first]


def _date(outcome: Outcome, events: list[Told], killed_unix_s: float) -> None:
    """When the new leader and the new generation were proposed, by the leader's wall clock."""
    for event in events:
        passed_s = event["at"] - killed_unix_s
        if event["kind"] == "leader" and outcome.elected_s is None:
            outcome.elected_s = passed_s
        if event["kind"] == "generation" and outcome.decided_s is None:
            outcome.decided_s = passed_s
