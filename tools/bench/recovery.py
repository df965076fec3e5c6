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
"none" in the table: nobody made a step again. Exit code 1 when a run's state hash differs from
that of one undisturbed peer, when the ledger is not exact, or when a job fails or hangs.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.bench import kills
from tools.bench.kills import Outcome
from tools.bench.rivals import torchrun

COLUMNS = {"stall": "stall_s", "kill -> decided": "decided_s", "kill -> seen": "seen_s"}
RIVAL_KILLS = 3


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench recovery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=10, help="of each kind (10)")
    parser.add_argument("--peers", type=int, default=3, help="3 or more (3)")
    parser.add_argument("--who", default="follower,leader", help="follower, leader or both")
    parser.add_argument("--epochs", type=int, default=20, help="of 24 steps (20)")
    parser.add_argument("--against", choices=["torchrun"], help="a rival, measured as well")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and victims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    kinds = chosen.who.split(",")
    if not set(kinds) <= {"follower", "leader"}:
        parser.error(f"--who {chosen.who}: there are follower and leader")
    if chosen.peers < 3:
        parser.error("--peers: with fewer than 3 the rest is no majority and cannot go on")
    if chosen.seed is None:
        chosen.seed = random.SystemRandom().randrange(1_000_000)
    return Recovery(chosen, kinds).run()


class Recovery:
    """One run of the benchmark."""

    def __init__(self, chosen: argparse.Namespace, kinds: Sequence[str]) -> None:
        self.chosen, self.kinds = chosen, kinds
        self.spec = {"task": "digits", "epochs": chosen.epochs}
        self.rng = random.Random(chosen.seed)
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []
        self.rival: list[dict[str, Any]] = []

    def run(self) -> int:
        chosen = self.chosen
        print(f"seed {chosen.seed}, {chosen.peers} peers, {chosen.epochs} epochs", flush=True)
        try:
            reference = self._reference()
            self._kill_all(reference)
        except P2PError as error:
            self.problems.append(str(error))
        if chosen.against:
            self._run_rival()
        self._print_table()
        for problem in self.problems:
            print(f"PROBLEM: {problem}")
        if chosen.json:
            chosen.json.write_text(json.dumps(self._to_json(), indent=1) + "\n")
        return 1 if self.problems else 0

    def _reference(self) -> str:
        with LocalCluster() as cluster:
            cluster.start()
            told = asyncio.run(kills.undisturbed(cluster, self.spec))
        if told["state"] != "finished":
            raise P2PError(f"the undisturbed job {told['state']}: {told['reason']}")
        print(f"undisturbed run of one peer: {told['step']} steps, {told['state_hash']}\n")
        return str(told["state_hash"])

    def _kill_all(self, reference: str) -> None:
        plans = {kind: kills.moments(self.chosen.kills, self.rng) for kind in self.kinds}
        print(_HEAD, flush=True)
        with LocalCluster() as cluster:
            for _ in range(self.chosen.peers):
                cluster.start()
            asyncio.run(kills.settle(cluster, self.chosen.peers))
            for at in range(self.chosen.kills):
                for kind in self.kinds:
                    self._kill(cluster, kind, plans[kind][at], reference)

    def _kill(self, cluster: LocalCluster, kind: str, moment: kills.Moment, reference: str) -> None:
        number = len(self.outcomes) + 1
        try:
            outcome, victim = asyncio.run(
                kills.kill_one(cluster, self.spec, kind, moment, self.rng)
            )
        except P2PError as error:
            raise P2PError(f"kill {number} ({kind} at {moment.share:.0%}): {error}") from error
        outcome.equal = outcome.state_hash == reference
        self.outcomes.append(outcome)
        print(_line(number, outcome), flush=True)
        what = f"kill {number} ({kind} at {moment.share:.0%})"
        if not outcome.equal:
            self.problems.append(f"{what}: {outcome.state_hash} is not {reference}")
        if not outcome.exact:
            self.problems.append(f"{what}: the ledger repeats or misses samples")
        cluster.restart(victim)
        asyncio.run(kills.settle(cluster, self.chosen.peers))

    def _run_rival(self) -> None:
        print("\ntorchrun, the same model and batch, DDP over gloo:", flush=True)
        count = min(self.chosen.kills, RIVAL_KILLS)
        self.rival = torchrun.measure(count, self.chosen.peers, self.kinds)

    def _print_table(self) -> None:
        print(
            f"\n{'killed':<10} {'':<16} {'kills':>5} {'median':>8} {'p95':>8} {'max':>8}  seconds"
        )
        for kind in self.kinds:
            of_kind = [one for one in self.outcomes if one.who == kind]
            for title, name in COLUMNS.items():
                print(_row(kind, title, [getattr(one, name) for one in of_kind]))
        for kind in self.kinds:
            of_rival = [one for one in self.rival if one["who"] == kind]
            if of_rival:
                print(_row(kind, "torchrun, stall", [one["stall_s"] for one in of_rival]))
        for kind in self.kinds:
            ratio = self._ratio(kind)
            if ratio is not None:
                print(f"kill of a {kind}: torchrun stands still {ratio:.0f} times as long")
        equal = sum(one.equal for one in self.outcomes)
        print(
            f"\n{equal} of {len(self.outcomes)} with the weights of the undisturbed run, "
            f"{sum(one.exact for one in self.outcomes)} with an exact ledger, "
            f"{sum(one.repeated for one in self.outcomes)} steps repeated, "
            f"{sum(len(one.others) for one in self.outcomes)} changes nobody asked for"
        )

    def _ratio(self, kind: str) -> float | None:
        ours = [one.stall_s for one in self.outcomes if one.who == kind and one.stall_s]
        theirs = [one["stall_s"] for one in self.rival if one["who"] == kind and one["stall_s"]]
        return statistics.median(theirs) / statistics.median(ours) if ours and theirs else None

    def _to_json(self) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "schema": 1,
            "seed": chosen.seed,
            "peers": chosen.peers,
            "epochs": chosen.epochs,
            "kills": [kills.to_json(one) for one in self.outcomes],
            "torchrun": self.rival,
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


def _row(kind: str, title: str, values: Sequence[float | None]) -> str:
    found = sorted(value for value in values if value is not None)
    if not found:
        return f"{kind:<10} {title:<16} {len(values):>5} {'none':>8}"
    p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
    return (
        f"{kind:<10} {title:<16} {len(found):>5} {statistics.median(found):>8.3f} "
        f"{p95:>8.3f} {found[-1]:>8.3f}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
