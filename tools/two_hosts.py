"""The torch backend across two hosts: PyTorch's DDP tutorial in two network namespaces. Needs root.

Each end of the line runs its share of the ranks, with mounts of its own: so the ranks of one end
share memory, and between the ends all goes by TCP, encrypted. The same program runs with gloo.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from p2p.errors import P2PError
from tools.bench.namespaces import ADDRESSES, Line

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "tests" / "ddp_tutorial.py"
SECONDS_MAX = 120.0
PORTS = {"gloo": "29871", "p2p": "29872"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.two_hosts", description=__doc__)
    parser.add_argument("--ranks", type=int, default=4, help="on both hosts together (4)")
    parser.add_argument("--mbit", type=int, default=1000, help="what the line carries (1000)")
    chosen = parser.parse_args(arguments)
    try:
        printed = {name: run(name, chosen.ranks, chosen.mbit) for name in PORTS}
    except P2PError as error:
        print(error, file=sys.stderr)
        return 1
    for losses in printed.values():
        print(losses)
    near = _same([line.split()[1:] for line in printed.values()])
    print("the same losses" if near else "the losses differ")
    return 0 if near else 1


def run(backend: str, ranks: int, mbit_per_s: int) -> str:
    """What rank 0 printed. Raises P2PError when a rank fails."""
    processes = []
    try:
        with Line(mbit_per_s) as line:
            for rank in range(ranks):
                line.enter(rank * 2 // ranks)
                processes.append(_start(backend, rank, ranks))
            told = [process.communicate(timeout=SECONDS_MAX) for process in processes]
    except subprocess.TimeoutExpired as error:
        raise P2PError(f"the ranks did not end within {SECONDS_MAX:g} s") from error
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, told, strict=True):
        if process.returncode:
            raise P2PError(f"a rank ended with {process.returncode}: {errors[-2000:]}")
    return told[0][0].strip()


def _start(backend: str, rank: int, ranks: int) -> "subprocess.Popen[str]":
    told = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": PORTS[backend], "OMP_NUM_THREADS": 1}
    environment = {
        **os.environ,
        **{name: str(value) for name, value in told.items()},
        "MASTER_ADDR": ADDRESSES[0],
        "GLOO_SOCKET_IFNAME": "line",
        "PYTHONPATH": str(ROOT),
    }
    pipe = subprocess.PIPE
    command = [sys.executable, str(TUTORIAL), backend]
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def _same(losses: list[list[str]]) -> bool:
    """To the last digit but one: gloo adds in another order."""
    pairs = zip(*([float(word) for word in words] for words in losses), strict=True)
    return all(abs(one - other) < 5e-6 for one, other in pairs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
