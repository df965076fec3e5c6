"""Two replicas on two cores beside one, and the memory of the peer that routes their streams.

All goes through peers: the client asks the one that has no slots. What the client and the peers use
of the cores is told as well, for the replicas cannot have that.
"""

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path

import psutil

from tools.bench.serving.cluster import Door, Serving, replica_pids
from tools.bench.serving.figures import Goal, Part
from tools.bench.serving.replica import MEDIUM, SMALL

STREAMS, TOKENS, WARM_TOKENS = 32, 48, 4
TWO_GOAL = 1.8
MEMORY_TOKENS, MEMORY_ROUNDS = 120, 6
MEMORY_GOAL_MB = 60.0
NAMES = ("tokens_per_second", "replicas", "peers", "client")

Row = dict[str, float]


def measure(serving: Serving, chosen: argparse.Namespace) -> Part:
    """32 streams for one replica, 32 for two, in turns."""
    found: dict[str, list[Row]] = {"one replica": [], "two replicas": []}
    with serving.served(MEDIUM) as one, serving.served(MEDIUM, 2) as two, serving.door() as door:
        services = dict(zip(found, (one, two), strict=True))
        for service in services.values():
            door.answered(service, STREAMS, WARM_TOKENS)
        for _ in range(chosen.rounds):
            for kind, service in services.items():
                found[kind].append(_round(serving, door, service))
    lines = [f"{STREAMS} streams of a model of 10 million parameters; cores used by"]
    lines.append(f"{'':14}{'tokens/s':>10}" + "".join(f"{name:>10}" for name in NAMES[1:]))
    rows = []
    for kind, each in found.items():
        middle = {name: statistics.median(row[name] for row in each) for name in NAMES}
        cores = "".join(f"{middle[name]:10.2f}" for name in NAMES[1:])
        lines.append(f"{kind:14}{middle['tokens_per_second']:10,.0f}{cores}")
        rows.append({"kind": kind, **middle})
    pairs = zip(*found.values(), strict=True)
    factor = statistics.median(b["tokens_per_second"] / a["tokens_per_second"] for a, b in pairs)
    return Part(rows, [Goal("two replicas beside one", factor, TWO_GOAL, "x", True)], lines)


def _round(serving: Serving, door: Door, service: str) -> Row:
    """Tokens per second, and how many cores each kind of process used meanwhile."""
    groups: dict[str, list[int]] = {
        "replicas": [pid for peer in serving.hosts for pid in replica_pids(peer)],
        "peers": [peer.process.pid for peer in (serving.front, *serving.hosts)],
        "client": [psutil.Process().pid],
    }
    before = {name: _cpu_s(pids) for name, pids in groups.items()}
    answered = door.answered(service, STREAMS, TOKENS)
    used = {name: _cpu_s(pids) - before[name] for name, pids in groups.items()}
    cores = {name: spent_s / answered.seconds for name, spent_s in used.items()}
    return {"tokens_per_second": answered.tokens / answered.seconds, **cores}


def _cpu_s(pids: Iterable[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(each.user + each.system for each in times))


def memory(serving: Serving, chosen: argparse.Namespace) -> Part:
    """The most that the peer without slots has had since its start, after 32 streams at a time."""
    before = _kilobytes(serving, "VmRSS")
    with serving.served(SMALL, 2) as service, serving.door() as door:
        found = [door.answered(service, STREAMS, MEMORY_TOKENS) for _ in range(MEMORY_ROUNDS)]
        after = _kilobytes(serving, "VmRSS")
    most = _kilobytes(serving, "VmHWM")
    tokens = sum(each.tokens for each in found)
    rate = tokens / sum(each.seconds for each in found)
    row = {"before_mb": before / 1e3, "after_mb": after / 1e3, "most_mb": most / 1e3}
    line = (
        f"a peer with --slots 0: {row['before_mb']:.1f} MB before, {row['after_mb']:.1f} MB after "
        f"{tokens:,} tokens of {STREAMS} streams at {rate:,.0f} tokens/s"
    )
    goal = Goal("a coordinating peer had", row["most_mb"], MEMORY_GOAL_MB, "MB")
    return Part([{**row, "tokens_per_second": rate}], [goal], [line])


def _kilobytes(serving: Serving, field: str) -> float:
    """Of the front; 1 kB = 1,000 bytes."""
    text = Path(f"/proc/{serving.front.process.pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1.024
