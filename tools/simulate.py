"""Run whole peers under a seeded storm of faults and check that they keep their promises.

python -m tools.simulate --seeds 500 --jobs 2     500 runs, up to the first that fails (exit 1)
python -m tools.simulate --seeds 100 --training   the same with training jobs in each of them
python -m tools.simulate --seed 17 --trace FILE   one run again, event by event
python -m tools.simulate --mutant NAME            break one line of the product: a run must fail
python -m tools.simulate --mutants                each of them, as a table
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tools.sim.mutants import MUTANTS
from tools.sim.mutants.patch import break_product
from tools.sim.outcome import Outcome

SECOND = 1_000_000
TRACE_TAIL = 40
MUTANT_SEEDS = 300


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.mutants:
        return hunt_all(options)
    if options.mutant:
        break_product(MUTANTS[options.mutant])  # before anything of the product is imported
    if options.seed is not None:
        return replay(options)
    return hunt(options) if options.mutant else sweep(options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, metavar="N", help="how many (500; of mutants 300)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes")
    parser.add_argument("--seed", type=int, metavar="S", help="only this one, with its parameters")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), metavar="NAME")
    parser.add_argument("--mutants", action="store_true", help="every mutant must be caught")
    parser.add_argument("--training", action="store_true", help="jobs in each, not in one of ten")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="with --seed: all events")
    options = parser.parse_args(arguments)
    if options.trace and options.seed is None:
        parser.error("--trace needs --seed: it is the trace of one run")
    if options.seeds is None:
        options.seeds = MUTANT_SEEDS if options.mutant or options.mutants else 500
    return options


def play(seed: int, tracing: bool = False, training: bool = False) -> Outcome:
    """Imports the product only here, so that a mutant can be put in its place before."""
    from tools.sim.parameters import draw
    from tools.sim.run import run

    return run(draw(seed, training), tracing)


def outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    """In the order of the seeds, however many processes run them."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.jobs < 2:
        yield from map(partial(play, training=options.training), seeds)
        return
    pool = ProcessPoolExecutor(options.jobs, mp_context=get_context("fork"))
    try:
        yield from pool.map(partial(play, training=options.training), seeds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def sweep(options: argparse.Namespace) -> int:
    """Run the seeds in order; stop at the first that fails."""
    begun = time.monotonic()
    total: Counter[str] = Counter()
    simulated = slowest_heal = events = 0
    for outcome in outcomes(options):
        if outcome.invariant is not None:
            report(outcome, options)
            return 1
        total += outcome.counts
        simulated += outcome.simulated
        events += outcome.events
        slowest_heal = max(slowest_heal, outcome.healed_after)
    print(
        f"{options.seeds} seeds clean in {time.monotonic() - begun:.0f} s: "
        f"{simulated / SECOND / 3600:.1f} simulated hours, {events} events, "
        f"{total['commits']} commits, {total['client operations']} client operations, "
        f"{total['checks']} checks, {total['elections']} elections; "
        f"slowest heal {slowest_heal / SECOND:.1f} s"
    )
    for name, number in sorted(total.items()):
        print(f"  {name}: {number}")
    return 0


def hunt(options: argparse.Namespace) -> int:
    """0 when some seed sees what the mutant breaks."""
    for number, outcome in enumerate(outcomes(options), 1):
        if outcome.invariant is not None:
            print(
                f"{options.mutant}: caught after {number} seeds by '{outcome.invariant}' "
                f"at {outcome.simulated / SECOND:.1f} s: {outcome.sentence}"
            )
            print(f"  replay: {command(outcome.seed, options)}", flush=True)
            return 0
    print(f"{options.mutant}: NOT caught within {options.seeds} seeds", file=sys.stderr)
    return 1


def hunt_all(options: argparse.Namespace) -> int:
    """Each mutant in a fresh process; prints the rows of the table in docs/simulator.md."""
    found = []
    print("| mutant | what is broken | invariant | seeds | replay |\n|---|---|---|---|---|")
    pool = ProcessPoolExecutor(options.jobs, mp_context=get_context("fork"))
    for row, caught in pool.map(partial(row_of, seeds=options.seeds), MUTANTS):
        print(row, flush=True)
        found.append(caught)
    print(f"{sum(found)} of {len(found)} mutants caught within {options.seeds} seeds")
    return 0 if all(found) else 1


def row_of(name: str, seeds: int) -> tuple[str, bool]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.simulate", "--mutant", name, "--seeds", str(seeds)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    broken = MUTANTS[name].sentence
    if done.returncode or "caught after" not in done.stdout:
        why = (done.stderr.strip().splitlines() or ["?"])[-1]
        return f"| {name} | {broken} | {why} | > {seeds} | |", False
    told, again = done.stdout.split("caught after ")[1].split("replay: ")  # a sentence has lines
    after, invariant = told.split("' at ")[0].split(" seeds by '")
    replay_with = again.strip().removeprefix("python -m tools.simulate ")
    return f"| {name} | {broken} | {invariant} | {after} | `{replay_with}` |", True


def replay(options: argparse.Namespace) -> int:
    outcome = play(options.seed, options.trace is not None, options.training)
    print("\n".join([f"seed {outcome.seed}, commit {commit()}", *outcome.parameters]), flush=True)
    if options.trace is not None:
        options.trace.write_text("\n".join(outcome.trace) + "\n")
    if outcome.invariant is not None:
        report(outcome, options)
        return 1
    print(
        f"clean: {outcome.simulated / SECOND:.1f} s simulated, {outcome.events} events, "
        f"healed in {outcome.healed_after / SECOND:.1f} s"
    )
    for name, number in sorted(outcome.counts.items()):
        print(f"  {name}: {number}")
    return 0


def report(outcome: Outcome, options: argparse.Namespace) -> None:
    """Everything needed to see it again, on stderr."""
    again = play(outcome.seed, True, options.training)
    lines = [
        f"seed {outcome.seed} violates '{outcome.invariant}' at "
        f"{outcome.simulated / SECOND:.6f} s: {outcome.sentence}",
        outcome.where,
        *outcome.parameters,
        f"the last events of {len(again.trace)}:",
        *again.trace[-TRACE_TAIL:],
        f"replay: {command(outcome.seed, options)}   (commit {commit()})",
    ]
    if again.sentence != outcome.sentence:
        lines.append(f"NOT DETERMINISTIC: the second run says: {again.sentence or 'clean'}")
    print("\n".join(lines), file=sys.stderr)


def command(seed: int, options: argparse.Namespace) -> str:
    text = f"python -m tools.simulate --seed {seed}"
    text += " --training" if options.training else ""
    return f"{text} --mutant {options.mutant}" if options.mutant else text


def commit() -> str:
    """The checkout that ran, so that the seed means the same again."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
