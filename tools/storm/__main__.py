"""Train in a storm: kill, crash, hang, slow down, cut off, add and remove real peers, fill their
disks; then compare every job with a run in which nothing happened.

python -m tools.storm --minutes 5 --peers 4 --seed 7     faults are drawn from the seed; time is not

Exit code 0: every job finished with the bits of the undisturbed run and an exact ledger, every
checkpoint of the log is on its disk and nothing else, and no process or file is left. Else 1; logs
are kept.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.chaos.aftermath import settle
from tools.chaos.crew import Crew
from tools.simulate import commit
from tools.storm.disks import Disks
from tools.storm.faults import TrainingStorm
from tools.storm.jobs import Jobs, Told, kind_of
from tools.storm.verdict import (
    figures,
    keep,
    left_behind,
    lost_checkpoints,
    problems_of,
    references,
    stop_all,
    tidied,
)

TELL_EVERY_S = 10.0
START_S = 60.0
FINISH_S = 420.0
LAST_S = 30.0
INTERRUPTED = 130
KILLS = ("kill", "kill all", "kill trainer", "crash")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    calm: dict[str, Told] = {}
    codes = []
    for seed in options.seed:
        codes.append(weather(options, seed, calm))
        if codes[-1] == INTERRUPTED:
            break
    return max(codes)


def weather(options: argparse.Namespace, seed: int, calm: dict[str, Told]) -> int:
    """One storm; the exit code. `calm`: what jobs come to undisturbed, as far as known by name."""
    peers = ("--slots", str(options.jobs), "--allow-faults")
    with LocalCluster(peers) as cluster, Disks() as disks:
        cluster.start()
        cluster.start_many(options.peers - 1)
        crew = Crew(cluster, peers)
        storm = TrainingStorm(crew, seed, frozenset(options.faults), disks)
        jobs = Jobs(crew, options.jobs)
        try:
            run(storm, jobs, 60.0 * options.minutes)
        except (P2PError, OSError, RuntimeError) as error:
            crew.problems.append(f"the run itself ended: {error!r}")
        except KeyboardInterrupt:
            storm.calm()  # what is stopped must not stay so
            crew.kill_all()
            print("interrupted: all peers are gone, nothing was checked", file=sys.stderr)
            return INTERRUPTED
        print(jobs.shown(cluster))
        judge(crew, jobs, calm)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(storm.counts.items()))
        print(f"faults: {counts}; {jobs.unwritten} checkpoints could not be written")
        for problem in crew.problems:
            print(f"PROBLEM {problem}")
        verdict = "clean" if not crew.problems else "PROBLEMS"
        print(row(seed, options.minutes, storm, jobs, verdict), flush=True)
        if not crew.problems:
            return 0
        ended = json.dumps(jobs.ended, indent=1)
        texts = {"jobs.json": f"{ended}\n", "events.txt": "\n".join([*jobs.events, ""])}
        print(f"kept: {keep(crew, 'p2p-storm-', texts)}")
        again = f"--minutes {options.minutes:g} --peers {options.peers} --jobs {options.jobs}"
        print(f"again: python -m tools.storm {again} --seed {seed}", flush=True)
        return 1


def row(seed: int, minutes: float, storm: TrainingStorm, jobs: Jobs, verdict: str) -> str:
    """Of the table in docs/soak.md."""
    kills = sum(storm.counts[kind] for kind in KILLS)
    told = [seed, f"{minutes:g}", len(jobs.ended), kills, storm.counts.total()]
    cells = [*map(str, told), *figures(list(jobs.ended.values())), verdict, commit()]
    return f"| {' | '.join(cells)} |"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    kinds = sorted(TrainingStorm.weights)
    parser = argparse.ArgumentParser(prog="python -m tools.storm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M")
    parser.add_argument("--peers", type=int, default=4, metavar="N", help="to begin with")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="S")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at a time, and slots")
    parser.add_argument("--faults", nargs="+", choices=kinds, default=kinds)
    return parser.parse_args(arguments)


def run(storm: TrainingStorm, jobs: Jobs, seconds: float) -> None:
    crew = storm.crew
    crew.until(lambda: not jobs.look() and is_running(jobs), "a job runs", START_S)
    last_s = time.monotonic() + seconds - LAST_S  # who is submitted later meets no fault
    storm.rage(seconds, progress(storm, jobs, last_s))
    settle(crew, storm)
    jobs.finish(FINISH_S)


def is_running(jobs: Jobs) -> bool:
    return any(job["state"] == "running" for job in jobs.seen.values())


def judge(crew: Crew, jobs: Jobs, calm: dict[str, Told]) -> None:
    crew.problems += tidied(crew, jobs.ended.values())
    for job in jobs.ended.values():
        crew.problems += lost_checkpoints(job)
    stop_all(crew)
    crew.problems += left_behind(crew.cluster)
    calm |= references({kind_of(job) for job in jobs.ended.values()} - calm.keys())
    for job in jobs.ended.values():
        crew.problems += problems_of(job, calm[kind_of(job)])


def progress(storm: TrainingStorm, jobs: Jobs, submits_until_s: float) -> Callable[[], None]:
    last_s = began_s = time.monotonic()

    def tell() -> None:
        nonlocal last_s
        now_s = time.monotonic()
        jobs.look(submits=now_s < submits_until_s)
        if now_s - last_s >= TELL_EVERY_S:
            last_s = now_s
            faults = storm.counts.total()
            print(f"{now_s - began_s:5.0f} s: {jobs.in_words()}, {faults} faults", file=sys.stderr)

    return tell


if __name__ == "__main__":
    sys.exit(main())
