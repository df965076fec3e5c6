"""Real peers without trainers as one cluster on this machine: start, kill the leader, agree, stop.

Prints what it did and how long it took; the exit code is 1 when something did not come true.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psutil

from p2p.client import Client
from p2p.control.autopilot import voters_wanted
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer

WITHIN_S = 120.0
ASKED = 6  # peers that must give the same answer in the end
QUIET_S = 5.0


def main(count: int, batch: int) -> int:
    started_s = time.monotonic()
    try:
        with LocalCluster(("--slots", "0", "--allow-faults")) as cluster:
            _start(cluster, count, batch)
            settled = asyncio.run(_until(cluster, lambda told: _is_settled(told, count)))
            _say(started_s, f"{count} peers are one cluster: {_roles(settled)}")
            _show_load(cluster, settled)
            _lose_the_leader(cluster, settled, count)
            codes = _stop(cluster)
        _say(started_s, f"all stopped, exit codes {sorted(set(codes))}")
        return 0 if set(codes) == {0} else 1
    except P2PError as error:
        print(f"failed: {error}")
        return 1


def _start(cluster: LocalCluster, count: int, batch: int) -> None:
    from_s = time.monotonic()
    cluster.start()
    while len(cluster.peers) < count:
        cluster.start_many(min(batch, count - len(cluster.peers)))
        _say(from_s, f"{len(cluster.peers)} peers run")


def _lose_the_leader(cluster: LocalCluster, settled: dict[str, Any], count: int) -> None:
    leader = _leader(cluster, settled)
    killed_s = time.monotonic()
    leader.kill()
    put = asyncio.run(_request(cluster, "put", key="after", value=b"the kill"))
    _say(killed_s, f"kill -9 of the leader to the next commit ({put or 'ok'})")
    told = asyncio.run(
        _until(cluster, lambda told: _is_settled(told, count - 1) and _names_dead(told, leader))
    )
    _say(killed_s, f"the leader is called dead, five vote again: {_roles(told)}")
    asyncio.run(_compare(cluster))
    _say(killed_s, f"{ASKED} peers give the same answers")
    events = asyncio.run(_request(cluster, "events"))["events"]
    for event in [event for event in events if event["kind"] == "voters"][-2:]:
        print(f"           {event['text']}")


async def _compare(cluster: LocalCluster) -> None:
    """Voters and learners say the same of members, leader and what was written."""
    running = [peer for peer in cluster.peers if peer.is_running]
    step = max(1, len(running) // ASKED)
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        views = [await _view(cluster, peer) for peer in running[::step][:ASKED]]
        if all(view == views[0] for view in views):
            return
        if time.monotonic() > deadline_s:
            raise P2PError(f"peers do not agree: {views}")
        await asyncio.sleep(0.2)


async def _view(cluster: LocalCluster, peer: LocalPeer) -> dict[str, Any]:
    client = Client([peer.address], cluster.key, timeout_s=10.0)
    try:
        status = await client.request("status")
        found = await client.request("get", key="after")
    finally:
        await client.close()
    peers = {told["id"]: (told["role"], told["state"]) for told in status["peers"]}
    return {"leader": status["cluster"]["leader"], "peers": peers, "value": found["value"]}


def _show_load(cluster: LocalCluster, status: dict[str, Any]) -> None:
    """Memory and CPU over a quiet while, by role."""
    roles = {told["id"]: told["role"] for told in status["peers"]}
    processes = {peer.id: psutil.Process(peer.process.pid) for peer in cluster.peers}
    before = {id_: sum(process.cpu_times()[:2]) for id_, process in processes.items()}
    time.sleep(QUIET_S)
    for role in ("leader", "voter", "learner"):
        ids = [id_ for id_ in processes if roles.get(id_) == role]
        if not ids:
            continue
        used_s = [sum(processes[id_].cpu_times()[:2]) - before[id_] for id_ in ids]
        rss = [processes[id_].memory_info().rss for id_ in ids]
        links = [len(processes[id_].net_connections("tcp")) for id_ in ids]
        print(
            f"           {len(ids):3d} {role:<8} {sum(rss) / len(rss) / 1e6:5.1f} MB  "
            f"{100 * sum(used_s) / len(used_s) / QUIET_S:5.1f} % of a core  "
            f"{sum(links) / len(links):5.1f} connections"
        )
    load = sum(psutil.cpu_percent(0.5, percpu=True))
    print(f"           the machine: {load:.0f} % of {100 * psutil.cpu_count():d} %")


def _stop(cluster: LocalCluster) -> list[int]:
    """SIGTERM to all but a voter or two at a time would be kinder; a user stops them all."""
    running = [peer for peer in cluster.peers if peer.is_running]
    for peer in running:
        peer.process.terminate()
    return [peer.process.wait(60.0) for peer in running]


async def _request(cluster: LocalCluster, verb: str, /, **args: Any) -> dict[str, Any]:
    running = [peer.address for peer in cluster.peers if peer.is_running]
    client = Client(running[:5], cluster.key, timeout_s=30.0)
    try:
        return await client.request(verb, **args)
    finally:
        await client.close()


async def _until(cluster: LocalCluster, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        told = await _request(cluster, "status")
        if is_so(told):
            return told
        if time.monotonic() > deadline_s:
            raise P2PError(f"not settled within {WITHIN_S:g} s: {_roles(told)}")
        await asyncio.sleep(0.1)


def _is_settled(told: dict[str, Any], count: int) -> bool:
    alive = [peer for peer in told["peers"] if peer["state"] == "alive"]
    votes = [peer for peer in alive if peer["role"] in ("leader", "voter")]
    leads = told["cluster"]["leader"] is not None and told["cluster"]["quorum"]
    return len(alive) == count and len(votes) == voters_wanted(count) and leads


def _names_dead(told: dict[str, Any], gone: LocalPeer) -> bool:
    return any(peer["id"] == gone.id and peer["state"] == "dead" for peer in told["peers"])


def _leader(cluster: LocalCluster, status: dict[str, Any]) -> LocalPeer:
    return next(peer for peer in cluster.peers if peer.id == status["cluster"]["leader"])


def _roles(told: dict[str, Any]) -> str:
    alive = [peer["role"] for peer in told["peers"] if peer["state"] == "alive"]
    return ", ".join(f"{alive.count(role)} {role}" for role in ("leader", "voter", "learner"))


def _say(from_s: float, text: str) -> None:
    print(f"{time.monotonic() - from_s:8.2f} s {text}", flush=True)
