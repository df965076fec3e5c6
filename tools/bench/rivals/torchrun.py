"""kill -9 of one of N torchrun agents on this host: how long until the others make a step again.

One agent per "node", elastic (`--nnodes=2:N`, c10d rendezvous). Its time-outs are set far below
their defaults (CONF), in its favour. A kill takes the agent and its worker. "follower" is any agent
but the first, "leader" is the first, whose process hosts the rendezvous store: without it the
others cannot go on. A run counts the steps since the last checkpoint, one per epoch, as repeated.
"""

import sys
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from tools.bench.contender import free_ports
from tools.bench.rivals import step_logs
from tools.bench.rivals.processes import start
from tools.bench.rivals.step_logs import Row, Started

# Defaults: 30 s, 5 s, 3 attempts.
CONF = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=2"
SCRIPT = Path(__file__).with_name("torchrun_digits.py")
EPOCHS = 100_000  # killed long before


def measure(count: int, nodes: int, kinds: Sequence[str]) -> Generator[Row]:
    return step_logs.measure("torchrun", partial(_start, nodes), count, nodes, kinds)


def _start(nodes: int, folder: Path) -> Started:
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
        script = [str(SCRIPT), str(folder), str(EPOCHS)]
        agents.append(start([*command, conf, *script], folder / f"agent-{number}.log", settings))
    return Started(agents, agents[0], agents[1:])
