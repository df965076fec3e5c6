"""kill -9 of one of N torchft replicas on this host: how long until the others make a step again.

torchft lives in an environment of its own, whose Python `--torchft` or $P2P_BENCH_TORCHFT names:

    python3 -m venv DIR && DIR/bin/pip install torchft numpy

One process per replica, a lighthouse that has none. Its heartbeat and join time-outs are set far
below their defaults (LIGHTHOUSE), in its favour. "follower" is any replica, "leader" is the
lighthouse, without which the others cannot agree on who is there.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from p2p.training.death import die_with
from tools.bench.contender import Missing, free_ports
from tools.bench.rivals import step_logs
from tools.bench.rivals.step_logs import Row

# Defaults: 5000, 60000, 100.
LIGHTHOUSE = "--heartbeat_timeout_ms=1000 --join_timeout_ms=1000 --quorum_tick_ms=20"
SCRIPT = Path(__file__).with_name("torchft_digits.py")
ROOT = Path(__file__).parents[3]
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
    """One row per kill, printed as well. `stall_s` None: nobody made a step again."""
    for kind in kinds:
        for at in range(count if kind == "follower" else 1):
            with tempfile.TemporaryDirectory(prefix="p2p-torchft-") as folder:
                row = _one(python, Path(folder), nodes, kind, at)
            print(step_logs.line(row), flush=True)
            if row["output"]:
                print("  it said: " + "\n           ".join(row["output"]), flush=True)
            yield row


def _one(python: Path, folder: Path, nodes: int, kind: str, at: int) -> Row:
    row = step_logs.nothing("torchft", kind)
    port = free_ports(1)[0]
    program = str(python.with_name("torchft_lighthouse"))
    command = [program, f"--bind=[::]:{port}", "--min_replicas=1", *LIGHTHOUSE.split()]
    lighthouse = _start(folder / "lighthouse.log", command, port)
    replicas = [
        _start(folder / f"replica-{number}.log", [str(python), "-P", str(SCRIPT), *words], port)
        for number in range(nodes)
        for words in [(str(folder), str(number))]
    ]
    try:
        if not step_logs.run_well(folder, nodes, replicas):
            return {**row, "output": step_logs.said(list(folder.glob("*.log")))}
        time.sleep(0.1 * at)
        victim = lighthouse if kind == "leader" else replicas[at % nodes]
        killed_s = time.monotonic()
        step_logs.kill(victim.pid)
        told = step_logs.after_kill(folder, nodes, killed_s, replicas)
        output = [] if told else step_logs.said(list(folder.glob("*.log")))
        return {**row, **told, "output": output}
    finally:
        for process in [lighthouse, *replicas]:
            step_logs.kill(process.pid)
            process.wait()


def _start(log: Path, command: list[str], port: int) -> "subprocess.Popen[bytes]":
    settings = {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{port}",
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **settings},
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()),
        )
