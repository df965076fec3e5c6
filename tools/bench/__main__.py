"""python -m tools.bench NAME [options]: runs one benchmark of the list below."""

import importlib
import signal
import sys
from types import FrameType

# A new benchmark is one file with `main(arguments) -> exit code` and one line here.
BENCHMARKS = {
    "allreduce": "all-reduce between real processes, side by side with torch's gloo",
    "aborts": "how soon a collective ends after an abort or a kill, and what is left",
    "auto": "what auto chooses on a line that is slow, and then fast",
    "barrier": "from the last rank's arrival at a barrier until all are released",
    "checkpoint": "how fast a large state is on disk, beside dd, and what training pays for it",
    "codecs": "what each codec costs a training step, in turns on the same trainers",
    "consensus": "how fast three peers agree, beside etcd and PySyncObj; what learners cost",
    "join": "what a joiner costs the others, and how soon a crashed trainer is back in the ring",
    "line": "what codecs are worth between two hosts on a line of 1 Gbit/s",
    "measuring": "what measuring costs an idle peer",
    "memory": "resident memory of peers, warm spares and trainers",
    "notices": "how long ranks on one host take to tell one another that data is ready",
    "recovery": "how long the others stand still after kill -9, and whether the weights stay equal",
    "serve": "what serving costs beside a plain loop, how soon it answers, what a death costs",
    "straggler": "steps per second when one trainer runs at a third of its speed",
    "train": "samples per second of a training job, beside DistributedDataParallel over gloo",
    "tui": "what p2ptui costs, and its peer, and how soon it shows what happened",
}


def main(arguments: list[str]) -> int:
    if arguments[:1] in ([], ["-h"], ["--help"]):
        print("usage: python -m tools.bench NAME [options]\n")
        for name, purpose in BENCHMARKS.items():
            print(f"  {name:12s} {purpose}")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        print(f"no benchmark is called {name!r}; there are: {known}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    module = importlib.import_module(f"tools.bench.{name}")
    code: int = module.main(rest)
    return code


def _end(number: int, frame: FrameType | None) -> None:
    """A time-out ends a benchmark like Ctrl-C does: what it started and made goes with it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
