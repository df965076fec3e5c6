"""What a commit costs the leader as more and more peers follow without a vote."""

import time
from typing import Any

import psutil

from tools.bench.contender import median
from tools.bench.peers import Connection, Peers

COUNTED = ("messages_sent", "bytes_sent", "messages_received", "bytes_received", "syncs")
Row = dict[str, Any]


def measure(counts: list[int], seconds: float) -> list[Row]:
    """One row for each number of learners; the cluster grows from one to the next."""
    print("\nthe leader, one command at a time, then nothing to do; learners beside the voters")
    print(_HEAD, flush=True)
    rows = []
    with Peers(3) as cluster:
        for count in counts:
            cluster.grow_to_learners(count)
            with cluster.connect(cluster.leader) as connection:
                rows.append(_row(cluster, connection, count, seconds))
            print(_line(rows[-1]), flush=True)
    return rows


def _row(cluster: Peers, connection: Connection, count: int, seconds: float) -> Row:
    leader = psutil.Process(cluster.leader.process.pid)
    before, cpu_s = connection.ask("stats"), _cpu_s(leader)
    taken = connection.puts(seconds)
    after, busy_s = connection.ask("stats"), _cpu_s(leader) - cpu_s
    cpu_s = _cpu_s(leader)
    time.sleep(seconds)
    idle_s = _cpu_s(leader) - cpu_s
    commits = len(taken)
    return {
        "learners": count,
        "peers": len(cluster.running),
        "commits": commits,
        "median_ms": 1e3 * median(taken),
        "cpu_ms_per_commit": 1e3 * max(0.0, busy_s - idle_s) / commits,
        "idle_cpu_share": idle_s / seconds,
        **{name: (after[name] - before[name]) / commits for name in COUNTED},
    }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


_HEAD = (
    f"{'learners':>8} {'peers':>5} {'median ms':>9} {'sent':>6} {'bytes':>7} {'received':>8} "
    f"{'bytes':>7} {'syncs':>5} {'CPU ms':>7}  per commit; CPU when idle"
)


def _line(row: Row) -> str:
    return (
        f"{row['learners']:>8} {row['peers']:>5} {row['median_ms']:>9.3f} "
        f"{row['messages_sent']:>6.1f} {row['bytes_sent']:>7.0f} {row['messages_received']:>8.1f} "
        f"{row['bytes_received']:>7.0f} {row['syncs']:>5.2f} {row['cpu_ms_per_commit']:>7.2f}"
        f"  {row['idle_cpu_share']:>6.1%}"
    )
