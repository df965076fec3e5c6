"""kill -9 of one of N torchft replicas on this host: how long until the others make a step again.

torchft lives in an environment of its own, whose Python `--torchft` or $P2P_BENCH_TORCHFT names:

    python3 -m venv DIR && DIR/bin/pip install torchft numpy

One process per replica, a lighthouse that has none. Its heartbeat and join time-outs are set far
below their defaults (LIGHTHOUSE), in its favour. "follower" is any replica, "leader" is the
lighthouse, without which the others cannot agree on who is there.
"""

import os
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from tools.bench.contender import Missing, free_ports
from tools.bench.rivals import step_logs
from tools.bench.rivals.processes import ROOT, start
from tools.bench.rivals.step_logs import Row, Started

# Defaults: 5000, 60000, 100.
LIGHTHOUSE = "--heartbeat_timeout_ms=1000 --join_timeout_ms=1000 --quorum_tick_ms=20"
SCRIPT = Path(__file__).with_name("torchft_digits.py")
VARIABLE = "P2P_BENCH_TORCHFT"


def find(python: str | None) -> Path:
    """The Python that has it. Raises Missing with how to get it."""
    found = Path(python or os.environ.get(VARIABLE, ""))
    if not found.is_file():
        raise Missing(
            "torchft is wanted in an environment of its own: `python3 -m venv DIR && DIR/bin/pip "
            f"install torchft numpy`, then --torchft DIR/bin/python or ${VARIABLE}"
        )
    if not found.with_name("torchft_lighthouse").is_file():
        raise Missing(f"{found} has no torchft beside it: `{found} -m pip install torchft numpy`")
    return found


def measure(python: Path, count: int, nodes: int, kinds: Sequence[str]) -> Generator[Row]:
    return step_logs.measure("torchft", partial(_start, python, nodes), count, nodes, kinds)


def _start(python: Path, nodes: int, folder: Path) -> Started:
    port = free_ports(1)[0]
    settings = {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{port}",
        "PYTHONPATH": str(ROOT),
    }
    program = str(python.with_name("torchft_lighthouse"))
    command = [program, f"--bind=[::]:{port}", "--min_replicas=1", *LIGHTHOUSE.split()]
    lighthouse = start(command, folder / "lighthouse.log", settings)
    script = [str(python), "-P", str(SCRIPT), str(folder)]
    replicas = [
        start([*script, str(number)], folder / f"replica-{number}.log", settings)
        for number in range(nodes)
    ]
    return Started(replicas, lighthouse, replicas)
