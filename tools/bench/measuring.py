"""What measuring and judging cost an idle peer: processor time and memory, with and without them.

Two clusters of real peers run at the same time, so that whatever else the machine does is the same
for both; one has `measure = false` in its settings and all alert rules off. The goal: 2 % of a core
per peer.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.watch import rules_file
from p2p.watch.rules import BUILT_IN

PEERS = 3
SETTLE_S = 3.0
IDLE_S = 20.0
GOAL_PERCENT = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the peers: percent of one core, and resident megabytes (10^6 bytes)."""

    measures: bool
    cpu_percent: float
    rss_mb: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench measuring", description=__doc__)
    parser.add_argument("--peers", type=int, default=PEERS, help=f"per cluster ({PEERS})")
    parser.add_argument("--idle", type=float, default=IDLE_S, help=f"seconds ({IDLE_S:g})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    try:
        rows = measured(chosen.peers, chosen.idle)
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    for row in rows:
        name = "with measuring" if row.measures else "without"
        print(f"{name:<15} {row.cpu_percent:6.2f} % of a core {row.rss_mb:8.1f} MB")
    cost = rows[0].cpu_percent - rows[1].cpu_percent
    print(f"they cost {cost:.2f} % of a core per peer, the goal is {GOAL_PERCENT:g} %")
    if chosen.json:
        told = {"schema": 1, "peers": chosen.peers, "rows": [asdict(row) for row in rows]}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


def measured(peers: int, idle_s: float) -> list[Row]:
    """With measuring and judging, and without. Raises P2PError."""
    with LocalCluster() as with_it, LocalCluster() as without:
        config = without.folder / "config" / "p2pnode" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("measure = false\n")
        names = json.dumps([rule.name for rule in BUILT_IN])
        config.with_name(rules_file.FILE).write_text(f"off = {names}\n")
        for cluster in (with_it, without):
            cluster.start("--slots", "0")
            cluster.start_many(peers - 1, "--slots", "0")
        time.sleep(SETTLE_S)
        return _watched(with_it, without, idle_s)


def _watched(with_it: LocalCluster, without: LocalCluster, idle_s: float) -> list[Row]:
    processes = [
        [psutil.Process(peer.told["pid"]) for peer in cluster.peers]
        for cluster in (with_it, without)
    ]
    before = [[used_s(process) for process in group] for group in processes]
    time.sleep(idle_s)
    rows = []
    for measures, group, began in zip((True, False), processes, before, strict=True):
        spent_s = [used_s(process) - at for process, at in zip(group, began, strict=True)]
        rss = statistics.mean(process.memory_info().rss for process in group)
        rows.append(Row(measures, 100.0 * statistics.mean(spent_s) / idle_s, rss / 1e6))
    return rows


def used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
