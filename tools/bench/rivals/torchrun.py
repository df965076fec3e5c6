"""kill -9 of one of N torchrun agents on this host: how long until the others make a step again.

One agent per "node", elastic (`--nnodes=2:N`, c10d rendezvous). Its time-outs are set far below
their defaults (CONF), in its favour. A kill takes the agent and its worker. "follower" is any agent
but the first, "leader" is the first, whose process hosts the rendezvous store: without it the
others cannot go on. A run counts the steps since the last checkpoint, one per epoch, as repeated.
"""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from p2p.training.death import die_with

# Defaults: 30 s, 5 s, 3 attempts.
CONF = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=2"
SCRIPT = Path(__file__).with_name("torchrun_digits.py")
EPOCHS = 100_000  # killed long before
STEPS_FIRST = 60
START_TIMEOUT_S = 90.0
GO_ON_TIMEOUT_S = 60.0
POLL_S = 0.02

Row = dict[str, Any]


def measure(count: int, nodes: int, kinds: Sequence[str]) -> list[Row]:
    """One row per kill, printed as well. `stall_s` None: nobody made a step within a minute."""
    rows = []
    for kind in kinds:
        for at in range(count if kind == "follower" else 1):
            with tempfile.TemporaryDirectory(prefix="p2p-torchrun-") as folder:
                row = _one(Path(folder), nodes, kind, at)
            rows.append(row)
            print(_line(row), flush=True)
            if row["stall_s"] is None and row["output"]:
                print("  it said: " + "\n           ".join(row["output"]), flush=True)
    return rows


def _line(row: Row) -> str:
    if row["stall_s"] is None:
        return f"  {row['who']:<9} no step within {GO_ON_TIMEOUT_S:g} s"
    return (
        f"  {row['who']:<9} stall {row['stall_s']:.3f} s, kill -> next step {row['next_s']:.3f} s, "
        f"{row['repeated']} steps repeated, step time before {row['step_s'] * 1e3:.1f} ms"
    )


def _one(folder: Path, nodes: int, kind: str, at: int) -> Row:
    agents = _start(folder, nodes)
    row: Row = {"who": kind, "stall_s": None, "next_s": None, "repeated": None, "output": []}
    try:
        before = _wait(folder, nodes, START_TIMEOUT_S, 0.0)
        if before is None:
            return {**row, "output": _said(folder)}
        time.sleep(0.1 * at)
        victim = agents[0] if kind == "leader" else agents[1 + at % (nodes - 1)]
        killed_s = time.monotonic()
        _kill(victim.pid)
        after = _wait(folder, 1, GO_ON_TIMEOUT_S, killed_s + 0.5)
        steps = _steps(folder)
        last_s, last_step, _ = max(line for line in steps if line[0] < killed_s + 0.5)
        if after is None:
            return {**row, "output": _said(folder)}
        next_s, next_step, _ = min(line for line in steps if line[0] > killed_s + 0.5)
        times = sorted({line[1]: line[0] for line in steps if line[0] <= last_s}.values())
        gaps = [late - early for early, late in pairwise(times)]
        return {
            **row,
            "stall_s": next_s - last_s,
            "next_s": next_s - killed_s,
            "repeated": last_step - next_step + 1,
            "step_s": statistics.median(gaps),
        }
    finally:
        for agent in agents:
            _kill(agent.pid)
            agent.wait()


def _start(folder: Path, nodes: int) -> "list[subprocess.Popen[bytes]]":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes=2:{nodes}"]
    command += ["--nproc-per-node=1", "--max-restarts=10", "--rdzv-backend=c10d"]
    command += ["--rdzv-id=bench", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
    settings = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    # By default restarted workers share the first agent's store; with torch 2.13 they then did not
    # connect again ("Connection refused": it seems that they find the old addresses in it).
    settings["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    agents = []
    for number in range(nodes):
        conf = f"--rdzv-conf={CONF},is_host={int(number == 0)}"
        with (folder / f"agent-{number}.log").open("wb") as log:
            agents.append(
                subprocess.Popen(
                    [*command, conf, str(SCRIPT), str(folder), str(EPOCHS)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **settings},
                    start_new_session=True,
                    preexec_fn=partial(die_with, os.getpid()),
                )
            )
    return agents


def _kill(pid: int) -> None:
    """SIGKILL of an agent and all its children, which have sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        agent = psutil.Process(pid)
        for one in [agent, *agent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)


def _steps(folder: Path) -> list[tuple[float, int, int]]:
    """(monotonic seconds, step, world size) of every step of every process so far."""
    found = []
    for file in folder.glob("steps-*"):
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) == 3:
                found.append((float(words[0]), int(words[1]), int(words[2])))
    return found


def _wait(folder: Path, nodes: int, timeout_s: float, after_s: float) -> float | None:
    """Wait until `nodes` made enough steps together (when restarting: one); when that was."""
    deadline_s = time.monotonic() + timeout_s
    enough = STEPS_FIRST if after_s == 0.0 else 1
    while time.monotonic() < deadline_s:
        done = [at for at, _, size in _steps(folder) if at > after_s and size >= nodes]
        if len(done) >= enough * nodes:
            return max(done)
        time.sleep(POLL_S)
    return None


def _said(folder: Path) -> list[str]:
    """The last error of each agent."""
    lines = []
    for log in sorted(folder.glob("agent-*.log")):
        errors = [
            line for line in log.read_text(errors="replace").splitlines() if "Error: " in line
        ]
        lines += [f"{log.stem}: {line[:150]}" for line in errors[-1:]]
    return lines
