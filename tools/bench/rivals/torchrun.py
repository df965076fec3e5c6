"""kill -9 of one of N torchrun agents on this host: how long until the others make a step again.

One agent per "node", elastic (`--nnodes=2:N`, c10d rendezvous). Its time-outs are set far below
their defaults (CONF), in its favour. A kill takes the agent and its worker. "follower" is any agent
but the first, "leader" is the first, whose process hosts the rendezvous store: without it the
others cannot go on. A run counts the steps since the last checkpoint, one per epoch, as repeated.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from p2p.training.death import die_with
from tools.bench.contender import free_ports
from tools.bench.rivals import step_logs
from tools.bench.rivals.step_logs import Row

# Defaults: 30 s, 5 s, 3 attempts.
CONF = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=2"
SCRIPT = Path(__file__).with_name("torchrun_digits.py")
EPOCHS = 100_000  # killed long before


def measure(count: int, nodes: int, kinds: Sequence[str]) -> Generator[Row]:
    """One row per kill, printed as well. `stall_s` None: nobody made a step again."""
    for kind in kinds:
        for at in range(count if kind == "follower" else 1):
            with tempfile.TemporaryDirectory(prefix="p2p-torchrun-") as folder:
                row = _one(Path(folder), nodes, kind, at)
            print(step_logs.line(row), flush=True)
            if row["output"]:
                print("  it said: " + "\n           ".join(row["output"]), flush=True)
            yield row


def _one(folder: Path, nodes: int, kind: str, at: int) -> Row:
    agents = _start(folder, nodes)
    row = step_logs.nothing("torchrun", kind)
    try:
        if not step_logs.run_well(folder, nodes, agents):
            return {**row, "output": step_logs.said(list(folder.glob("agent-*.log")))}
        time.sleep(0.1 * at)
        victim = agents[0] if kind == "leader" else agents[1 + at % (nodes - 1)]
        killed_s = time.monotonic()
        step_logs.kill(victim.pid)
        told = step_logs.after_kill(folder, nodes, killed_s, agents)
        output = [] if told else step_logs.said(list(folder.glob("agent-*.log")))
        return {**row, **told, "output": output}
    finally:
        for agent in agents:
            step_logs.kill(agent.pid)
            agent.wait()


def _start(folder: Path, nodes: int) -> "list[subprocess.Popen[bytes]]":
    port = free_ports(1)[0]
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
