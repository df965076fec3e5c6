"""Prompt in a storm: 32 clients ask at random peers while replicas, peers, the leader and clients
are killed, stopped and cut off; then compare every answer with an undisturbed process's.

python -m tools.prompt_storm --minutes 5 --seed 1     faults are drawn from the seed; time is not

Exit code 0: every answer is whole, once and the one that is expected, what is wrong was refused
with a sentence, `p2pnode verify` saw when the cluster was ill and that it is well, and no process
or file is left. Else 1; logs are kept.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2p.errors import P2PError, Unhealthy
from p2p.local_cluster import LocalCluster
from tools.chaos.aftermath import settle
from tools.chaos.crew import Crew
from tools.prompt_storm.audit import all_gaps, audited, first_tokens, gaps_at_deaths, spread
from tools.prompt_storm.crowd import Crowd
from tools.prompt_storm.faults import ServingStorm
from tools.prompt_storm.mutant import break_peers
from tools.prompt_storm.questions import questions
from tools.prompt_storm.served import alone, p2pnode, serve, train, verified
from tools.prompt_storm.watching import Memory
from tools.simulate import commit
from tools.storm.verdict import keep, left_behind, stop_all

TELL_EVERY_S = 10.0
HEAL_S = 240.0  # on a busy machine
WELL_WITHIN_S = 180.0
ILL_WITHIN_S = 60.0
PEER_MB_MAX = 120.0
INTERRUPTED = 130
Report = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    again = f"--minutes {options.minutes:g} --peers {options.peers} --clients {options.clients}"
    print(f"again: python -m tools.prompt_storm {again} --seed {options.seed}", flush=True)
    peers = ("--slots", "1", "--allow-faults")
    with LocalCluster(peers) as cluster:
        if options.broken:
            break_peers(cluster.folder / "broken")
        cluster.start()
        cluster.start_many(options.peers - 1)
        crew = Crew(cluster, peers)
        try:
            report = weather(crew, options)
        except (P2PError, OSError, RuntimeError) as error:
            crew.problems.append(f"the run itself ended: {error!r}")
            report = {}
        except KeyboardInterrupt:
            crew.kill_all()
            print("interrupted: all peers are gone, nothing was checked", file=sys.stderr)
            return INTERRUPTED
        report |= {"seed": options.seed, "minutes": options.minutes, "commit": commit()}
        report |= {"clean": not crew.problems, "problems": crew.problems}
        print(shown(report), flush=True)
        if options.report:
            options.report.write_text(json.dumps(report, indent=1) + "\n")
        if not crew.problems:
            return 0
        records = sorted((cluster.folder / "clients").glob("*.jsonl"))
        kept = keep(crew, "p2p-prompts-", {path.name: path.read_text() for path in records})
        print(f"kept: {kept}", flush=True)
        return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    kinds = sorted(ServingStorm.weights)
    parser = argparse.ArgumentParser(prog="python -m tools.prompt_storm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M")
    parser.add_argument("--peers", type=int, default=5, metavar="N")
    parser.add_argument("--clients", type=int, default=32, metavar="N")
    parser.add_argument("--processes", type=int, default=4, metavar="N", help="of the clients")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--faults", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--broken", action="store_true", help="replicas that must be caught")
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON")
    return parser.parse_args(arguments)


def weather(crew: Crew, options: argparse.Namespace) -> Report:
    """The storm, its end and the verdict."""
    job = train(crew)
    asked = questions(options.seed, alone(crew, job).answer)
    serve(crew, job, least=2, most=3)
    load = os.getloadavg()[0]
    crowd = Crowd(
        crew.cluster, [q for q, _ in asked], options.clients, options.processes, options.seed
    )
    storm = ServingStorm(crew, options.seed, frozenset(options.faults), crowd)
    try:
        with Memory(crew) as memory:
            storm.rage(60.0 * options.minutes, progress(storm, crowd))
            settle(crew, storm, HEAL_S)
            crowd.finish(crew.problems)
    finally:
        crowd.kill()
    records = crowd.records()
    verdict = audited(records, {question.key: said for question, said in asked}, crowd.vanished)
    crew.problems += verdict.problems
    degrade(crew)
    stop_all(crew)
    crew.problems += left_behind(crew.cluster)
    most_mb = max(memory.peers_mb.values(), default=0.0)
    if most_mb > PEER_MB_MAX:
        crew.problems.append(f"a peer had {most_mb} MB, more than {PEER_MB_MAX:g}")
    gaps = {f"{who} killed": s for who, s in gaps_at_deaths(records, storm.deaths).items()}
    return {
        "requests": dict(sorted(verdict.counts.items())),
        "tokens": verdict.tokens,
        "gone_on_elsewhere": verdict.moves,
        "faults": dict(sorted(storm.counts.items())),
        "gaps": {name: spread(s) for name, s in {**gaps, "all": all_gaps(records)}.items()},
        "first_token": spread(first_tokens(records)),
        "peers_mb": memory.peers_mb,
        "replicas_mb": memory.replicas_mb,
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def degrade(crew: Crew) -> None:
    """`p2pnode verify` says that all is well, what is not, and that it is again."""
    verified(crew, 0, WELL_WITHIN_S)
    victim = crew.of("up")[-1]
    crew.kill(victim)
    print(f"$ p2pnode verify\n{verified(crew, Unhealthy.exit_code, ILL_WITHIN_S)}")
    crew.start(victim)
    print(f"$ p2pnode verify\n{verified(crew, 0, WELL_WITHIN_S)}")
    crew.diary.note(f"the last events: {p2pnode(crew, 'events')[1]}")


def progress(storm: ServingStorm, crowd: Crowd) -> Callable[[], None]:
    last_s = began_s = time.monotonic()

    def tell() -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= TELL_EVERY_S:
            last_s = now_s
            faults = storm.counts.total()
            told = f"{now_s - began_s:5.0f} s: {crowd.lines()} lines from clients, {faults} faults"
            print(told, file=sys.stderr)

    return tell


def shown(report: Report) -> str:
    lines = [f"storm of prompts: seed {report['seed']}, {report['minutes']:g} minutes"]
    for name, told in report.items():
        if isinstance(told, dict):
            lines.append(f"{name}: {', '.join(f'{key} {_plain(v)}' for key, v in told.items())}")
        elif name not in ("seed", "minutes", "clean", "problems"):
            lines.append(f"{name}: {told}")
    lines += [f"PROBLEM {problem}" for problem in report["problems"]]
    return "\n".join([*lines, "clean" if report["clean"] else "PROBLEMS"])


def _plain(told: Any) -> str:
    if not isinstance(told, dict):
        return str(told)
    return f"({' '.join(f'{name} {value}' for name, value in told.items())})"


if __name__ == "__main__":
    sys.exit(main())
