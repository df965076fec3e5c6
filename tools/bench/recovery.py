"""How long a training job stands still when a peer is killed with kill -9, and whether the weights
stay the same bits.

Every kill: a digits job on real peers, SIGKILL of a follower's or of the leader's peer process (its
trainer dies with it) at another moment of the run, the end of the job, and the killed peer started
again. Two figures per kill, because two people ask:

- stall: what training lost. The time between the last step applied before the change and the
  first applied after it, on the survivor where it was longest, as `p2pnode job` shows it.
- kill -> seen: what a user sees. From the kill until a client that asks a survivor every
  10 ms is told that the generation without the victim has applied a step. This clock is ours, not
  the cluster's, and its time contains the agreement that steps go on. It starts later than
  the stall (up to one step) and ends later (report, commit, question), so the two check each other.

Between the two: kill -> elected (a new leader's first entry) and kill -> decided (the generation).
One table has the medians and 95th percentiles for every number of peers, beside the goals and the
rivals. "none" in it: nobody made a step again. Exit code 1 when a run's state hash differs from
that of one undisturbed peer, when the ledger is not exact, or when a job fails or hangs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.bench import kills
from tools.bench.contender import Missing, percentile
from tools.bench.kills import Outcome
from tools.bench.rivals import torchft, torchrun

COLUMNS = {"stall": "stall_s", "kill -> decided": "decided_s", "kill -> seen": "seen_s"}
GOALS_S = {"follower": (0.25, 0.5), "leader": (0.5, 1.0)}  # of the stall: median, p95
RIVALS = ("torchrun", "torchft")
RIVAL_KILLS = 3


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench recovery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=10, help="of each kind (10)")
    parser.add_argument("--peers", default="3", help="how many, 3 or more; several: 3,5 (3)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="for all kills of ours together"
    )
    parser.add_argument("--who", default="follower,leader", help="follower, leader or both")
    parser.add_argument("--epochs", type=int, default=20, help="of 24 steps (20)")
    parser.add_argument("--against", default="", help="torchrun, torchft or both: measured as well")
    parser.add_argument(
        "--torchft", metavar="PYTHON", help=f"that has torchft (default: ${torchft.VARIABLE})"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the moments and victims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    kinds = chosen.who.split(",")
    if not set(kinds) <= {"follower", "leader"}:
        parser.error(f"--who {chosen.who}: there are follower and leader")
    counts = [int(word) if word.isdecimal() else 0 for word in chosen.peers.split(",")]
    if min(counts) < 3:
        parser.error("--peers: with fewer than 3 the rest is no majority and cannot go on")
    rivals = [word for word in chosen.against.split(",") if word]
    if not set(rivals) <= set(RIVALS):
        parser.error(f"--against {chosen.against}: there are {', '.join(RIVALS)}")
    try:
        python = torchft.find(chosen.torchft) if "torchft" in rivals else None
    except Missing as error:
        parser.error(str(error))
    if chosen.seed is None:
        chosen.seed = random.SystemRandom().randrange(1_000_000)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of `timeout`: the table is told
    return Recovery(chosen, kinds, counts, rivals, python).run()


class Recovery:
    """One run of the benchmark."""

    def __init__(
        self,
        chosen: argparse.Namespace,
        kinds: Sequence[str],
        counts: Sequence[int],
        rivals: Sequence[str],
        torchft_python: Path | None,
    ) -> None:
        self.chosen, self.kinds, self.counts, self.rivals = chosen, kinds, counts, rivals
        self.torchft_python = torchft_python
        self.spec = {"task": "digits", "epochs": chosen.epochs}
        self.rng = random.Random(chosen.seed)
        self.outcomes: dict[int, list[Outcome]] = {count: [] for count in counts}
        self.problems: list[str] = []
        self.reference = ""  # the hash of the undisturbed run
        self.until_s = 0.0  # no further kills after that
        self.is_over = False
        self.rows: list[dict[str, Any]] = []  # of the rivals

    def run(self) -> int:
        chosen, end_s = self.chosen, time.monotonic() + 60 * self.chosen.minutes
        print(f"seed {chosen.seed}, {chosen.epochs} epochs, {_load()}", flush=True)
        self._try("one peer", self._run_undisturbed)
        for at, count in enumerate(self.counts if self.reference else ()):
            # Each number of peers has its share of the minutes that are left.
            now_s = time.monotonic()
            self.until_s = now_s + (end_s - now_s) / (len(self.counts) - at)
            self._try(f"{count} peers", partial(self._kill_all, count))
        for count in self.counts:
            for rival in self.rivals:
                self._try(f"{rival}, {count} peers", partial(self._run_rival, rival, count))
        self._print_table()
        for problem in self.problems:
            print(f"PROBLEM: {problem}")
        if chosen.json:
            chosen.json.write_text(json.dumps(self._to_json(), indent=1) + "\n")
        return 1 if self.problems else 0

    def _try(self, what: str, part: Callable[[], None]) -> None:
        """Whatever ends it early, what was measured is told; after an interrupt nothing begins."""
        if self.is_over:
            return
        try:
            part()
        except KeyboardInterrupt:
            self.is_over = True
            self.problems.append(f"{what}: interrupted")
        except (P2PError, OSError, subprocess.SubprocessError) as error:
            self.problems.append(f"{what}: {error}")

    def _run_undisturbed(self) -> None:
        with LocalCluster() as cluster:
            cluster.start()
            told = asyncio.run(kills.undisturbed(cluster, self.spec))
        if told["state"] != "finished":
            raise P2PError(f"the undisturbed job {told['state']}: {told['reason']}")
        print(f"undisturbed run of one peer: {told['step']} steps, {told['state_hash']}\n")
        self.reference = str(told["state_hash"])

    def _kill_all(self, count: int) -> None:
        plans = {kind: kills.moments(self.chosen.kills, self.rng) for kind in self.kinds}
        print(f"{count} peers\n{_HEAD}", flush=True)
        with LocalCluster() as cluster:
            cluster.start()
            cluster.start_many(count - 1)
            self._settle(cluster, count)
            for at in range(self.chosen.kills):
                for kind in self.kinds:
                    if time.monotonic() < self.until_s:
                        self._kill(cluster, count, kind, plans[kind][at])

    def _kill(self, cluster: LocalCluster, count: int, kind: str, moment: kills.Moment) -> None:
        number = len(self.outcomes[count]) + 1
        what = f"kill {number} of {count} peers ({kind} at {moment.share:.0%})"
        try:
            outcome, victim = asyncio.run(
                kills.kill_one(cluster, self.spec, kind, moment, self.rng)
            )
        except P2PError as error:
            raise P2PError(f"{what}: {error}") from error
        outcome.equal = outcome.state_hash == self.reference
        self.outcomes[count].append(outcome)
        print(_line(number, outcome), flush=True)
        if not outcome.equal:
            self.problems.append(f"{what}: {outcome.state_hash} is not {self.reference}")
        if not outcome.exact:
            self.problems.append(f"{what}: the ledger repeats or misses samples")
        cluster.restart(victim)
        self._settle(cluster, count)

    def _settle(self, cluster: LocalCluster, count: int) -> None:
        """All peers are in, and can start a trainer at once: else the next job would begin without
        some, and be far on, or over, before it has all of them."""
        asyncio.run(kills.settle(cluster, count))
        asyncio.run(kills.undisturbed(cluster, {"task": "digits", "steps": 1, "peers_min": count}))

    def _run_rival(self, rival: str, count: int) -> None:
        times = min(self.chosen.kills, RIVAL_KILLS)
        print(f"\n{rival}, the same model and batch, over gloo, {count} of them:", flush=True)
        if rival == "torchrun":
            found = torchrun.measure(times, count, self.kinds)
        else:
            assert self.torchft_python is not None
            found = torchft.measure(self.torchft_python, times, count, self.kinds)
        with contextlib.closing(found):
            for row in found:
                self.rows.append({**row, "peers": count})

    def _print_table(self) -> None:
        print(
            f"\n{'peers':>5} {'killed':<9} {'':<16} {'kills':>5} {'median':>8} {'p95':>8} "
            f"{'max':>8}  seconds; goal"
        )
        for count in self.counts:
            for kind in self.kinds:
                self._print_rows(count, kind)
        every = [one for each in self.outcomes.values() for one in each]
        print(
            f"\n{sum(one.equal for one in every)} of {len(every)} with the weights of the "
            f"undisturbed run, {sum(one.exact for one in every)} with an exact ledger, "
            f"{sum(one.repeated for one in every)} steps repeated, "
            f"{sum(len(one.others) for one in every)} changes nobody asked for; {_load()}"
        )

    def _print_rows(self, count: int, kind: str) -> None:
        ours = [one for one in self.outcomes[count] if one.who == kind]
        stalls_s = [one.stall_s for one in ours if one.stall_s is not None]
        for title, name in COLUMNS.items():
            goal = _judged(kind, stalls_s) if name == "stall_s" and stalls_s else ""
            print(_row(count, kind, title, [getattr(one, name) for one in ours]) + goal)
        for rival in self.rivals:
            theirs = [
                row["stall_s"]
                for row in self.rows
                if (row["rival"], row["peers"], row["who"]) == (rival, count, kind)
            ]
            known = [seconds for seconds in theirs if seconds is not None]
            times = statistics.median(known) / statistics.median(stalls_s) if known else 0.0
            ratio = f"  {times:.0f} times as long as ours" if known and stalls_s else ""
            print(_row(count, kind, f"{rival}, stall", theirs) + ratio)

    def _to_json(self) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "schema": 1,
            "seed": chosen.seed,
            "epochs": chosen.epochs,
            "kills": {
                count: [kills.to_json(one) for one in each] for count, each in self.outcomes.items()
            },
            "rivals": self.rows,
            "problems": self.problems,
        }


_HEAD = (
    f"{'kill':>4} {'who':<9} {'at':>4} {'step':>5} {'stall':>7} {'elected':>8} {'decided':>8} "
    f"{'seen':>7} {'repeated':>8}  ledger  weights  other changes"
)


def _line(number: int, one: Outcome) -> str:
    def shown(value: float | None, width: int) -> str:
        return f"{'-' if value is None else format(value, '.3f'):>{width}}"

    return (
        f"{number:>4} {one.who:<9} {one.share:>4.0%} {one.step:>5} {shown(one.stall_s, 7)} "
        f"{shown(one.elected_s, 8)} {shown(one.decided_s, 8)} {shown(one.seen_s, 7)} "
        f"{one.repeated:>8}  {'exact ' if one.exact else 'WRONG '}  "
        f"{'equal  ' if one.equal else 'DIFFER '}  {'; '.join(one.others) or '-'}"
    )


def _row(count: int, kind: str, title: str, values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    head = f"{count:>5} {kind:<9} {title:<16}"
    if not found:
        return f"{head} {len(values):>5} {'none':>8}"
    return (
        f"{head} {len(found):>5} {statistics.median(found):>8.3f} "
        f"{percentile(found, 0.95):>8.3f} {max(found):>8.3f}"
    )


def _judged(kind: str, stalls_s: Sequence[float]) -> str:
    """Against the goals."""
    median_s, p95_s = GOALS_S[kind]
    reached = statistics.median(stalls_s) <= median_s and percentile(stalls_s, 0.95) <= p95_s
    return f"  {median_s:g} and {p95_s:g}: {'reached' if reached else 'missed'}"


def _load() -> str:
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
