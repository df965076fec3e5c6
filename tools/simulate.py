"""Run the Raft core under a seeded storm of faults and check that it keeps its promises.

python -m tools.simulate --seeds 500              500 runs, up to the first that fails (exit 1)
python -m tools.simulate --seed 17 --trace FILE   one run again, event by event
python -m tools.simulate --mutant host-never-sync break the loop around the core: a run must fail
python -m tools.simulate --mutants                each of them
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tools.sim.parameters import SECOND, draw
from tools.sim.run import Outcome, run

HOST_MUTATIONS = frozenset({"host-reply-before-sync", "host-never-sync", "host-trust-page-cache"})
TRACE_TAIL = 40


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.mutants:
        caught = [hunt(name, options) for name in sorted(HOST_MUTATIONS)]
        return 0 if all(caught) else 1
    mutations = frozenset({options.mutant} if options.mutant else ())
    if options.seed is not None:
        return replay(options.seed, mutations, options.trace)
    if options.mutant:
        return 0 if hunt(options.mutant, options) else 1
    return sweep(options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=500, help="how many (default %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="S")
    parser.add_argument("--seed", type=int, metavar="S", help="only this one, with its parameters")
    parser.add_argument("--mutant", choices=sorted(HOST_MUTATIONS), metavar="NAME")
    parser.add_argument("--mutants", action="store_true", help="every mutation must be caught")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="with --seed: all events")
    options = parser.parse_args(arguments)
    if options.trace and options.seed is None:
        parser.error("--trace needs --seed: it is the trace of one run")
    return options


def sweep(options: argparse.Namespace) -> int:
    """Run the seeds in order; stop at the first that fails."""
    begun = time.process_time()
    total: Counter[str] = Counter()
    simulated = slowest_heal = events = 0
    for number in range(options.seeds):
        outcome = run(draw(options.first_seed + number))
        if outcome.invariant is not None:
            report(outcome, frozenset())
            return 1
        total += outcome.counts
        simulated += outcome.simulated
        events += outcome.events
        slowest_heal = max(slowest_heal, outcome.healed_after)
    seconds = time.process_time() - begun
    print(
        f"{options.seeds} seeds clean in {seconds:.0f} s of processor time: "
        f"{simulated / SECOND / 3600:.1f} simulated hours, {events} events, "
        f"{total['commits']} commits, {total['elections']} elections; "
        f"slowest heal {slowest_heal / SECOND:.1f} s"
    )
    for name, number in sorted(total.items()):
        print(f"  {name}: {number}")
    return 0


def hunt(mutant: str, options: argparse.Namespace) -> bool:
    """Whether some seed sees what the mutation breaks."""
    mutations = frozenset({mutant})
    for number in range(options.seeds):
        outcome = run(draw(options.first_seed + number), mutations)
        if outcome.invariant is not None:
            print(
                f"{mutant}: caught after {number + 1} seeds by '{outcome.invariant}' "
                f"at {outcome.simulated / SECOND:.1f} s: {outcome.sentence}"
            )
            print(f"  replay: {command(outcome, mutations)}")
            return True
    print(f"{mutant}: NOT caught within {options.seeds} seeds", file=sys.stderr)
    return False


def replay(seed: int, mutations: frozenset[str], trace: Path | None) -> int:
    parameters = draw(seed)
    print("\n".join([f"seed {seed}, commit {commit()}", *parameters.lines()]), flush=True)
    outcome = run(parameters, mutations, tracing=trace is not None)
    if trace is not None:
        trace.write_text("\n".join(outcome.trace) + "\n")
    if outcome.invariant is not None:
        report(outcome, mutations)
        return 1
    print(
        f"clean: {outcome.simulated / SECOND:.1f} s simulated, {outcome.events} events, "
        f"healed in {outcome.healed_after / SECOND:.1f} s"
    )
    for name, number in sorted(outcome.counts.items()):
        print(f"  {name}: {number}")
    return 0


def report(outcome: Outcome, mutations: frozenset[str]) -> None:
    """Everything needed to see it again, on stderr."""
    seed = outcome.parameters.seed
    again = run(outcome.parameters, mutations, tracing=True)
    lines = [
        f"seed {seed} violates '{outcome.invariant}' at {outcome.simulated / SECOND:.6f} s: "
        f"{outcome.sentence}",
        outcome.where,
        *outcome.parameters.lines(),
        f"the last events of {len(again.trace)}:",
        *again.trace[-TRACE_TAIL:],
        f"replay: {command(outcome, mutations)}   (commit {commit()})",
    ]
    if again.sentence != outcome.sentence:
        lines.append(f"NOT DETERMINISTIC: the second run says: {again.sentence or 'clean'}")
    print("\n".join(lines), file=sys.stderr)


def command(outcome: Outcome, mutations: frozenset[str]) -> str:
    text = f"python -m tools.simulate --seed {outcome.parameters.seed}"
    return text + "".join(f" --mutant {name}" for name in sorted(mutations))


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
