"""README's "Train it, then ask it" as it is written: on peers of this host, each command with what
it prints and how long it took.

Afterwards the job's loss is compared with the unigram entropy of its data, which is as far as a
model gets that knows only how often each byte occurs; and a peer is killed with kill -9, for what
`p2pnode verify` says of that. Exit code 1 when a command fails, when the loss is not well below
the entropy, or when `verify` does not tell well from ill.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from p2p.errors import Unhealthy
from p2p.local_cluster import LocalCluster
from p2p.tasks import text

README = Path(__file__).parent.parent / "README.md"
HEADING = "## Train it, then ask it"
JOB = "tales"
WELL_BELOW = 0.75  # of the entropy
PEERS = 3
WITHIN_S = 600.0
SHOWN_MAX = 16  # lines of one command
VERIFY = "p2pnode verify"

PROGRAMS = ("    p2pnode ", "    curl ")
JOINS = "p2pnode --join "

Ended = subprocess.CompletedProcess[str]


def commands(readme: str, steps: int | None = None, data: Path | None = None) -> list[str]:
    """The section's commands for a shell, in their order; if given, the job makes so many steps,
    or learns from these data."""
    _, _, rest = readme.partition(f"\n{HEADING}\n")
    section, _, _ = rest.partition("\n## ")
    lines = [line.strip() for line in section.splitlines() if line.startswith(PROGRAMS)]
    return [_changed(line, steps, data) if "--steps" in line else line for line in lines]


def _changed(line: str, steps: int | None, data: Path | None) -> str:
    words = shlex.split(line, comments=True)
    if steps is not None:
        words[words.index("--steps") + 1] = str(steps)
    return shlex.join([*words, *(["--data", str(data)] if data else [])])


def carry_out(cluster: LocalCluster, line: str) -> Ended:
    """As a shell would that finds this cluster's peers; but curl fails when it is told an error."""
    program, *arguments = shlex.split(line, comments=True)
    programs = {
        "p2pnode": [sys.executable, "-P", "-m", "p2p.cli"],
        "curl": ["curl", "--fail-with-body", "--noproxy", "*"],
    }
    return subprocess.run(
        [*programs[program], *arguments],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_and_ask",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, help="instead of those that README has")
    chosen = parser.parse_args(arguments)
    print(f"{PEERS} peers, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    problems: list[str] = []
    with LocalCluster() as cluster:
        cluster.start()
        cluster.start_many(PEERS - 1)
        *lines, last = commands(README.read_text(), chosen.steps)
        for line in lines:
            if line.startswith(JOINS):
                join(cluster, line)
            else:
                problems += shown(cluster, line)
        problems += learned(cluster)
        cluster.peers[PEERS - 1].kill()
        print("\n(one peer was killed with kill -9)")
        wait_until_noticed(cluster)
        problems += shown(cluster, VERIFY, Unhealthy.exit_code)
        problems += shown(cluster, last)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


def join(cluster: LocalCluster, line: str) -> None:
    """One more peer, as in a terminal of its own. Raises P2PError."""
    print(f"\n$ {line}", flush=True)
    peer = cluster.start(*shlex.split(line.removeprefix(JOINS), comments=True)[1:])
    print(json.dumps(peer.told.get("http")))


def shown(cluster: LocalCluster, line: str, code: int = 0) -> list[str]:
    """Problems, if the command does not end with this code."""
    began_s = time.monotonic()
    print(f"\n$ {line}", flush=True)
    done = carry_out(cluster, line)
    said = shortened(f"{done.stdout}{done.stderr}".splitlines())
    print("\n".join([*said, f"({time.monotonic() - began_s:.1f} s)"]), flush=True)
    return [] if done.returncode == code else [f"{line}: exit code {done.returncode}, not {code}"]


def shortened(lines: list[str]) -> list[str]:
    """A job says every half second how far it is."""
    if len(lines) <= SHOWN_MAX:
        return lines
    return [*lines[: SHOWN_MAX // 2], "…", *lines[-SHOWN_MAX // 4 :]]


def learned(cluster: LocalCluster) -> list[str]:
    """Problems, if the loss is not well below the entropy of the data."""
    done = carry_out(cluster, f"p2pnode job {JOB} --json")
    metrics = json.loads(done.stdout)["metrics"] if done.returncode == 0 else {}
    held_out_bits = metrics.get("bits_per_byte")
    if held_out_bits is None:
        return [f"nothing is known of what {JOB} has learned: {done.stderr.strip()}"]
    data = text.read(None)
    entropy_bits = text.unigram_bits(data)
    factor = held_out_bits / entropy_bits
    print(
        f"\n{len(data):,} bytes have a unigram entropy of {entropy_bits:.3f} bits per byte; the "
        f"model needs {held_out_bits:.3f} bits of what was held out, {factor:.2f} times as many"
    )
    return [] if factor <= WELL_BELOW else [f"that is not well below ({WELL_BELOW:g} times)"]


def wait_until_noticed(cluster: LocalCluster) -> None:
    """The leader has judged the peer that was killed, and somebody answers for it if it can."""
    deadline_s = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline_s:
        done = carry_out(cluster, "p2pnode status --json")
        peers = json.loads(done.stdout)["peers"] if done.returncode == 0 else []
        if any(peer["state"] == "dead" for peer in peers):
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
