"""The same bits on 1, 2, 3, 4 and 5 real peers, for every built-in task, whatever happens to them.

python -m tools.sameness [--tasks digits mnist textgpt] [--peers 5] [--length 1.0]

Each task runs undisturbed on one peer, then on every number of peers with a kill -9 (where others
are a majority without it, of the leader), a join, shards that move away from a slowed trainer, and
a pause; what was saved in the pause is restored onto one peer more or less. mnist trains on the
digits' pictures, enlarged into IDX files, for nothing is downloaded; textgpt, small, on one of
Python's own sources.

Exit code 0: everything happened, and every run ended with the bits and the ledger of the
undisturbed one, its checkpoints on the disks and nothing left behind. Else 1.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence

from p2p.local_cluster import LocalCluster
from tools.chaos.crew import Crew
from tools.sameness.data import TEXT, enlarged_digits
from tools.sameness.script import Run, Told, disturbed, restored, undisturbed
from tools.simulate import commit
from tools.storm.verdict import left_behind, lost_checkpoints, stop_all

ARGUMENTS = ("--slots", "1", "--allow-faults")
SMALL_GPT = {"width": "32", "layers": "2", "heads": "2", "context": "64"}
# Each epoch has a short last batch; so many that the script is through before the job is.
SPECS: dict[str, Told] = {
    "digits": {"task": "digits", "epochs": 80},
    "mnist": {"task": "mnist", "epochs": 10, "global_batch": 48},
    "textgpt": {
        "task": "textgpt",
        "epochs": 10,
        "data": str(TEXT),
        "options": {**SMALL_GPT, "dropout": "10", "schedule": "cosine"},
    },
}
COLUMNS = ("task", "peers", "what happened", "generations", "ledger", "state hash", "same bits")
IN_S = 60.0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began_s = time.monotonic()
    print(f"commit {commit()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    with LocalCluster(ARGUMENTS) as cluster:
        specs = {name: scaled(SPECS[name], options.length) for name in options.tasks}
        if "mnist" in specs:
            specs["mnist"] = {**specs["mnist"], "data": enlarged_digits(cluster.folder / "mnist")}
        cluster.start()
        crew = Crew(cluster, ARGUMENTS)
        print("", _line(COLUMNS), _line(["---"] * len(COLUMNS)), sep="\n", flush=True)
        runs = list(stages(crew, specs, options.peers))
        for run in runs:
            crew.problems += lost_checkpoints(run.told)
        stop_all(crew)
        crew.problems += left_behind(cluster)
    for problem in crew.problems:
        print(f"PROBLEM {problem}")
    took_s = time.monotonic() - began_s
    verdict = "PROBLEMS" if crew.problems else "all the same"
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"\n{len(runs)} runs in {took_s / 60:.1f} minutes, {load}: {verdict}", flush=True)
    return int(bool(crew.problems))


def stages(crew: Crew, specs: dict[str, Told], most: int) -> Iterator[Run]:
    """One more peer in each; every run as it ended, with its row printed."""
    calm: dict[str, Told] = {}
    last: dict[str, Run] = {}
    for peers in range(1, most + 1):
        if peers > 1:
            crew.add()
        crew.until(lambda peers=peers: is_full(crew, peers), f"{peers} peers", IN_S)
        for name, spec in specs.items():
            if peers == 1:
                first = undisturbed(crew, name, spec)
                calm[name] = first.told
                yield shown(first, calm[name])
            before, last[name] = last.get(name), disturbed(crew, name, spec, peers)
            yield shown(last[name], calm[name])
            if before is not None:
                down = peers % 2 == 0
                saved, onto = (last[name], peers - 1) if down else (before, peers)
                if saved.saved:  # else it is a problem already
                    yield shown(restored(crew, saved, onto), calm[name])


def scaled(spec: Told, length: float) -> Told:
    return {**spec, "epochs": max(1, round(length * int(spec["epochs"])))}


def is_full(crew: Crew, peers: int) -> bool:
    told = crew.ask("status") or {"peers": []}
    return [peer["state"] for peer in told["peers"]].count("alive") == peers


def shown(run: Run, calm: Told) -> Run:
    print(_line(run.row(calm)), flush=True)
    return run


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.sameness", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--tasks", nargs="+", choices=SPECS, default=list(SPECS))
    parser.add_argument("--peers", type=int, default=5, metavar="N", help="up to so many (5)")
    parser.add_argument(
        *("--length",), type=float, default=1.0, metavar="X", help="times as many epochs (1.0)"
    )
    return parser.parse_args(arguments)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
