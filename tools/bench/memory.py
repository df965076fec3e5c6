"""Resident memory of peers and their children, real processes, from /proc/PID/smaps_rollup.

RSS counts every resident page; PSS shares a page among the processes that have it, so a fork of the
spare counts what it shares with it only in part; private pages are what would be free again
if the process ended. The goal: an idle peer with `--slots 0` within 45 MB of RSS.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from tools.bench import kills

IDLE_S = 10.0
GOAL_MB = 45.0
SPARE_WARM_TIMEOUT_S = 120.0
TORCH_MB = 150.0  # a spare smaller than this has not imported torch yet
JOB = {"task": "digits", "epochs": 40}
FIELDS = ("Rss", "Pss", "Private_Clean", "Private_Dirty")


@dataclass(frozen=True, slots=True)
class Row:
    """Megabytes (10^6 bytes) of one process."""

    where: str
    process: str
    rss_mb: float
    pss_mb: float
    private_mb: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--idle", type=float, default=IDLE_S, help=f"seconds idle ({IDLE_S:g})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    rows = []
    print(f"{'where':<32} {'process':<16} {'RSS':>7} {'PSS':>7} {'private':>8}  MB", flush=True)
    try:
        for row in (*_idle(chosen.idle), *_with_slots(chosen.idle)):
            rows.append(row)
            print(_line(row), flush=True)
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    print(f"\nan idle peer: {rows[0].rss_mb:.1f} MB, the goal is {GOAL_MB:g} MB")
    if chosen.json:
        told = {"schema": 1, "goal_mb": GOAL_MB, "rows": [asdict(row) for row in rows]}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def _idle(idle_s: float) -> Iterator[Row]:
    with LocalCluster() as cluster:
        cluster.start("--slots", "0")
        time.sleep(idle_s)
        yield measured("alone, --slots 0", "peer", cluster.peers[0].process.pid)
        cluster.start("--slots", "0")
        cluster.start("--slots", "0")
        asyncio.run(kills.settle(cluster, 3))
        time.sleep(idle_s)
        for number, peer in enumerate(cluster.peers):
            role = "peer, leader" if number == 0 else "peer, follower"
            yield measured("one of 3, --slots 0", role, peer.process.pid)


def _with_slots(idle_s: float) -> Iterator[Row]:
    with LocalCluster() as cluster:
        for _ in range(3):
            cluster.start("--slots", "1")
        asyncio.run(kills.settle(cluster, 3))
        spares = [_warm_spare(peer) for peer in cluster.peers]
        time.sleep(idle_s)
        leader = cluster.peers[0]
        yield measured("one of 3, --slots 1, idle", "peer, leader", leader.process.pid)
        yield measured("one of 3, --slots 1, idle", "warm spare", spares[0].pid)
        asyncio.run(_run_into_job(cluster))
        yield measured("one of 3, running digits", "peer, leader", leader.process.pid)
        yield measured("one of 3, running digits", "warm spare", spares[0].pid)
        for spare in spares:
            for trainer in spare.children():
                yield measured("one of 3, running digits", "trainer", trainer.pid)


def _warm_spare(peer: LocalPeer) -> psutil.Process:
    """The spare, once it has imported torch: it is large, and rests."""
    deadline_s = time.monotonic() + SPARE_WARM_TIMEOUT_S
    used_s = -1.0
    while time.monotonic() < deadline_s:
        for child in psutil.Process(peer.process.pid).children():
            before_s, used_s = used_s, sum(child.cpu_times()[:2])
            if child.memory_info().rss > TORCH_MB * 1e6 and used_s == before_s:
                return child
        time.sleep(1.0)
    raise P2PError(f"the spare of {peer.told['name']} is not warm: see {peer.log}")


async def _run_into_job(cluster: LocalCluster) -> None:
    """Return in the middle of a running job with a trainer on every peer."""
    client = Client([cluster.peers[0].address], cluster.key, kills.TIMEOUT_S)
    try:
        job = str((await client.request("submit", **JOB))["job"])
        await kills.until(client, kills.at_share(0.3, len(cluster.peers)), "job", job=job)
    finally:
        await client.close()


def measured(where: str, process: str, pid: int) -> Row:
    """Raises P2PError when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise P2PError(f"the {process} ({where}) ended: {error}") from error
    lines = [line.split() for line in text.splitlines()]
    mb = {line[0].rstrip(":"): int(line[1]) * 1024 / 1e6 for line in lines[1:]}
    rss, pss, clean, dirty = (mb[name] for name in FIELDS)
    return Row(where, process, rss, pss, clean + dirty)


def _line(row: Row) -> str:
    return (
        f"{row.where:<32} {row.process:<16} {row.rss_mb:>7.1f} {row.pss_mb:>7.1f} "
        f"{row.private_mb:>8.1f}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
