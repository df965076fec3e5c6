"""How fast three processes agree, beside etcd and PySyncObj.

Commands write 64 bytes. A command counts when its client, outside the three processes, has the
answer: then it is on the disks of a majority (fdatasync; PySyncObj keeps everything in memory).

- rounds: one command at a time, then 64 always on their way. The systems take turns, one of them
  runs at a time, each round anew; the table has the medians over the rounds.
- kills: kill -9 of the leader of a quiet cluster until a client's next command is committed.
- learners: what a commit costs the leader as more and more peers only follow.
- catch-up: how long commands take while a new peer fetches a large snapshot.

Everything is in temporary folders on one disk and talks over 127.0.0.1. A machine with few cores
shares them between the processes and the client, so compare figures of one run only.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2p.errors import P2PError
from tools.bench import catch_up, learners
from tools.bench.contender import Contender, Missing, median, percentile
from tools.bench.peers import Peers
from tools.bench.rivals.etcd import Etcd
from tools.bench.rivals.pysyncobj import PySyncObj

RIVALS: dict[str, Callable[[], Contender]] = {"etcd": Etcd, "pysyncobj": PySyncObj}
PARTS = ("rounds", "kills", "learners", "catch-up")
IN_FLIGHT = 64
GOALS = {
    ("etcd", "one"): ("ours / etcd, one at a time", 0.7),
    ("pysyncobj", "one"): ("ours / PySyncObj, one at a time", 0.05),
}
KILL_GOAL_S = 0.3


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench consensus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--against", default="", help="etcd, pysyncobj or both, with a comma")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="of each system (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (5)")
    parser.add_argument("--kills", type=int, default=10, help="of each system's leader (10)")
    parser.add_argument("--learners", default="2,5,10,20,50", help="how many (2,5,10,20,50)")
    parser.add_argument("--snapshot-mb", type=int, default=50, help="for the catch-up (50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    chosen.against = [name for name in chosen.against.split(",") if name]
    chosen.only = chosen.only.split(",")
    if not set(chosen.against) <= set(RIVALS):
        parser.error(f"--against: there are {', '.join(RIVALS)}")
    if not set(chosen.only) <= set(PARTS):
        parser.error(f"--only: there are {', '.join(PARTS)}")
    try:
        figures = _run(chosen)
    except (Missing, P2PError, OSError) as error:
        print(f"consensus benchmark: {error}", file=sys.stderr)
        return 1
    if chosen.json:
        chosen.json.write_text(json.dumps({"schema": 1, **figures}, indent=1) + "\n")
    return 0


def _run(chosen: argparse.Namespace) -> dict[str, Any]:
    systems: list[Callable[[], Contender]] = [Peers, *(RIVALS[name] for name in chosen.against)]
    for system in systems:
        system()  # raises Missing before anything was measured
    figures: dict[str, Any] = {}
    if "rounds" in chosen.only:
        figures["rounds"] = _rounds(systems, chosen.rounds, chosen.seconds)
    if "kills" in chosen.only:
        figures["kills"] = _kills(systems, chosen.kills)
    if "learners" in chosen.only:
        counts = [int(count) for count in chosen.learners.split(",")]
        figures["learners"] = learners.measure(counts, chosen.seconds)
    if "catch-up" in chosen.only:
        figures["catch_up"] = catch_up.measure(chosen.snapshot_mb, chosen.seconds)
    return figures


# -- rounds ------------------------------------------------------------------------------------


def _rounds(
    systems: Sequence[Callable[[], Contender]], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """One row per system and round: milliseconds, and commands per second."""
    rows: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        for system in systems:
            with system() as contender:
                row = _round(contender, seconds)
            rows.append({"round": number, **row})
            print(_line(f"round {number}", row), flush=True)
    print(f"\n{'median of the rounds':<21} {'one at a time':>18}      p99   {IN_FLIGHT} in flight")
    names = list(dict.fromkeys(row["system"] for row in rows))
    medians = {name: _median_row([row for row in rows if row["system"] == name]) for name in names}
    for name in names:
        print(_line("", medians[name]))
    for name in names:
        if (name, "one") in GOALS:
            title, goal = GOALS[name, "one"]
            ratio = medians["p2pnode"]["median_ms"] / medians[name]["median_ms"]
            print(f"{title}: {ratio:.3f} (goal: at most {goal:g})")
            faster = medians["p2pnode"]["per_second"] / medians[name]["per_second"]
            print(f"ours / {name}, {IN_FLIGHT} in flight: {faster:.2f} times as many per second")
    return rows


def _round(contender: Contender, seconds: float) -> dict[str, Any]:
    taken = contender.one_at_a_time(seconds)
    row = {
        "system": contender.name,
        "median_ms": 1e3 * median(taken),
        "p99_ms": 1e3 * percentile(taken, 0.99),
        "per_second": contender.in_flight(IN_FLIGHT, seconds),
        "public_ms": None,
    }
    if isinstance(contender, Peers):
        row["public_ms"] = 1e3 * median(contender.with_public_client(seconds / 2))
    return row


def _median_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    figures = ("median_ms", "p99_ms", "per_second", "public_ms")
    found = {name: [row[name] for row in rows if row[name] is not None] for name in figures}
    medians = {name: statistics.median(all_) if all_ else None for name, all_ in found.items()}
    return {"system": rows[0]["system"], **medians}


def _line(start: str, row: dict[str, Any]) -> str:
    public = row["public_ms"]
    more = f"   by p2p.client {public:.3f} ms" if public is not None else ""
    return (
        f"{start:<10} {row['system']:<10} {row['median_ms']:>15.3f} ms {row['p99_ms']:>8.3f} "
        f"{row['per_second']:>9.0f}/s{more}"
    )


# -- kills -------------------------------------------------------------------------------------


def _kills(systems: Sequence[Callable[[], Contender]], count: int) -> dict[str, list[float]]:
    """Seconds, by system."""
    print("\nkill -9 of the leader, cluster quiet, until the next commit")
    found: dict[str, list[float]] = {}
    for system in systems:
        with system() as contender:
            taken = [contender.kill_leader() for _ in range(count)]
        found[contender.name] = taken
        print(
            f"{contender.name:<10} {len(taken)} kills: median {median(taken):.3f} s, "
            f"least {min(taken):.3f} s, most {max(taken):.3f} s",
            flush=True,
        )
    print(f"goal: ours at most {KILL_GOAL_S:g} s")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
