"""Kill, pause, cut off, add and remove real peers under real clients; check what they were told.

python -m tools.chaos --minutes 10 --seed 7        faults are drawn from the seed; time is not
python -m tools.chaos --seconds 8 --faults kill    only these

Exit code 0: the clients' history is linearizable, all acknowledged writes are there, all copies and
logs are equal. Else 1; the directories, the history and the faults are kept.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.chaos.aftermath import compare_logs, final_reads, judge, settle
from tools.chaos.crew import ARGUMENTS, Crew
from tools.chaos.diary import Observer
from tools.chaos.storm import WEIGHTS, Storm
from tools.chaos.workload import Workload, silences

TELL_EVERY_S = 10.0
VOTERS_S = 30.0
QUIET_TOLD, QUIET_LONG_S, QUIET_BEFORE_S = 3, 3.0, 4.0  # times without an answer, in the report


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    seconds = options.seconds or 60.0 * options.minutes
    began_s = time.monotonic()
    with LocalCluster(ARGUMENTS) as cluster:
        cluster.start()
        cluster.start_many(options.peers - 1)
        crew = Crew(cluster)
        crew.until(lambda: has_voters(crew), "the first peers vote", VOTERS_S)
        storm = Storm(crew, options.seed, frozenset(options.faults))
        workload = Workload(lambda: crew.addresses, cluster.key, options.clients, options.seed)
        observer = Observer(crew.diary, cluster.key, crew.running, crew.names)
        observer.start()
        try:
            lines = run(crew, storm, workload, seconds)
        except (P2PError, OSError, RuntimeError) as error:
            crew.problems.append(f"the run itself ended: {error!r}")
            lines = []
        except KeyboardInterrupt:
            crew.kill_all()  # a paused one would not hear a polite word
            print("interrupted: all peers are gone, nothing was checked", file=sys.stderr)
            return 130
        finally:
            observer.stop()
        print(f"chaos: seed {options.seed}, {time.monotonic() - began_s:.0f} s")
        print("\n".join(lines))
        for problem in crew.problems:
            print(f"PROBLEM {problem}")
        if not crew.problems:
            print("clean")
            return 0
        kept = keep(crew, storm, workload)
        print(f"kept: {kept}")
        print(f"again: python -m tools.chaos {' '.join(arguments or sys.argv[1:])}")
        return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help="instead")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--peers", type=int, default=3, metavar="N", help="to begin with")
    parser.add_argument("--clients", type=int, default=4, metavar="N")
    parser.add_argument("--faults", nargs="+", choices=sorted(WEIGHTS), default=sorted(WEIGHTS))
    return parser.parse_args(arguments)


def has_voters(crew: Crew) -> bool:
    status = crew.ask("status")
    roles = [peer["role"] for peer in status["peers"]] if status else []
    wanted = min(len(crew.members), 5) - (1 - min(len(crew.members), 5) % 2)
    return len([role for role in roles if role in ("leader", "voter")]) == wanted


def run(crew: Crew, storm: Storm, workload: Workload, seconds: float) -> list[str]:
    """The storm, the healing and the judgement. Returns what is to be printed."""
    workload.start()
    try:
        storm.rage(seconds, progress(storm, workload))
        agreed = settle(crew, storm)
    finally:
        workload.stop()
    until_s = time.monotonic()
    agreed = settle(crew, storm) or agreed  # the clients have stopped now
    final = final_reads(crew, workload)
    verdict = judge(crew, workload, final)
    shared = compare_logs(crew, agreed)
    counts, faults = workload.counts, storm.counts
    return [
        f"operations: {counts['ok']} ok, {counts['unknown']} unknown, {counts['failed']} failed",
        f"faults: {', '.join(f'{count} {kind}' for kind, count in sorted(faults.items()))}",
        *quiet_times(crew, workload, until_s),
        f"history: {verdict}",
        f"logs: {shared} entries equal on two or more of {len(crew.members)} peers, "
        f"agreed up to {agreed}; {len(workload.kept)} single writes looked up",
    ]


def quiet_times(crew: Crew, workload: Workload, until_s: float) -> list[str]:
    """The longest times without an answer to anybody, and what happened meanwhile."""
    lines = []
    for begin_s, end_s in silences(workload.history, until_s)[:QUIET_TOLD]:
        began_s = begin_s - crew.diary.began_s
        lines.append(f"no answer to anybody for {end_s - begin_s:.1f} s, from {began_s:.1f} on")
        if end_s - begin_s >= QUIET_LONG_S:
            meanwhile = crew.diary.told(begin_s - QUIET_BEFORE_S, end_s)
            lines += [f"    {line}" for line in meanwhile]
    return lines


def progress(storm: Storm, workload: Workload) -> Callable[[], None]:
    last_s = began_s = time.monotonic()

    def tell() -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= TELL_EVERY_S:
            last_s = now_s
            counts = workload.counts
            told = f"{counts['ok']} ok, {counts['unknown']} unknown, {counts['failed']} failed"
            faults = storm.counts.total()
            print(f"{now_s - began_s:5.0f} s: {told}, {faults} faults", file=sys.stderr)

    return tell


def keep(crew: Crew, storm: Storm, workload: Workload) -> Path:
    """Everything that helps to understand a failure, out of the folder that goes away."""
    kept = Path(tempfile.mkdtemp(prefix="p2p-chaos-"))
    crew.kill_all()
    sockets = shutil.ignore_patterns("run", "*.sock")
    shutil.copytree(crew.cluster.folder, kept / "cluster", ignore=sockets)
    lines = [operation.to_line() for operation in workload.history]
    (kept / "history.jsonl").write_text("\n".join(lines) + "\n")
    (kept / "diary.txt").write_text("\n".join(crew.diary.told(0.0, time.monotonic())) + "\n")
    told = [f"{count} x {error}" for error, count in workload.errors.most_common()]
    (kept / "errors.txt").write_text("\n".join(told) + "\n")
    return kept


if __name__ == "__main__":
    sys.exit(main())
