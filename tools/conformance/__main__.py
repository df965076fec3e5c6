"""`make conformance`: PyTorch's own distributed tests against p2p, and whether gloo does better.

    python -m tools.conformance                     p2p at world sizes 3 and 4
    python -m tools.conformance --against gloo      runs gloo, too, instead of what was recorded
    python -m tools.conformance --only barrier      the tests whose names contain this
    python -m tools.conformance --record            runs gloo and records what it passes

Exit code 1 when a test fails, or one that gloo passes is not passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tools.conformance.report import Result, counts, failures, names, skipped, verdict

RECORD = Path(__file__).parent / "gloo_passes.json"
ROOT = Path(__file__).parent.parent.parent
SECONDS_PER_TEST = "120"
TORCH = version("torch").partition("+")[0]


def main() -> int:
    arguments = _arguments()
    fine = True
    record: dict[str, list[str]] = {}
    for size in arguments.world_size:
        if arguments.record:
            results = run("gloo", size, arguments.only)
            print(counts("gloo", size, results), flush=True)
            record[str(size)] = names(results, "pass")
            continue
        ours = run("p2p", size, arguments.only)
        print(counts("p2p", size, ours), flush=True)
        if arguments.against or arguments.only:
            theirs = run("gloo", size, arguments.only)
            print(counts("gloo", size, theirs))
            passes = names(theirs, "pass")
        else:
            passes = recorded(size)
        good, sentence = verdict(ours, passes)
        fine = fine and good
        print(sentence)
        print(failures(ours) or f"skipped at world size {size}:\n{skipped(ours)}", flush=True)
    if record:
        RECORD.write_text(json.dumps({"torch": TORCH, **record}, indent=1) + "\n")
    return 0 if fine else 1


def recorded(size: int) -> list[str]:
    """What gloo passes. Raises SystemExit when that is not known of the installed torch."""
    known = json.loads(RECORD.read_text())
    if known["torch"] != TORCH or str(size) not in known:
        raise SystemExit(
            f"what gloo passes in torch {version('torch')} at world size {size} is not recorded: "
            "use --against gloo"
        )
    return list(known[str(size)])


def run(backend: str, size: int, only: Sequence[str]) -> list[Result]:
    """The suite in a process of its own, whose output is shown only when it ends badly."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        out, log = Path(folder, "results"), Path(folder, "log")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BACKEND": backend,
            "WORLD_SIZE": str(size),
            "TEMP_DIR": folder,
            "INIT_METHOD": f"file://{folder}/shared",
            "OMP_NUM_THREADS": "1",
            "DISTRIBUTED_TESTS_DEFAULT_TIMEOUT": SECONDS_PER_TEST,
            "TESTS": " ".join(only),
        }
        command = [sys.executable, "-m", "tools.conformance.runner", str(out)]
        with log.open("w") as sink:
            ended = subprocess.run(
                command, env=environment, cwd=ROOT, stdout=sink, stderr=sink, check=False
            )
        if ended.returncode != 0:
            raise SystemExit(f"the suite ended with {ended.returncode}:\n{log.read_text()[-3000:]}")
        return [Result(**json.loads(line)) for line in out.read_text().splitlines()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--world-size", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--against", choices=["gloo"])
    parser.add_argument("--only", nargs="+", default=[], metavar="PART")
    parser.add_argument("--record", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
