"""Three ranks; one is killed while the others need it. They say who it was, and how soon.

python tests/torch_killed_rank.py
"""

import os
import signal
import sys
import tempfile
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import p2p.torch_backend  # noqa: F401

SIZE = 3


def main(rank: int, init_method: str) -> None:
    torch.set_num_threads(1)
    timeout = timedelta(seconds=60)
    dist.init_process_group("p2p", init_method, rank=rank, world_size=SIZE, timeout=timeout)
    values = torch.ones(1000)
    message = dist.irecv(torch.zeros(1), src=2)
    dist.all_reduce(values)
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    said = []
    for wait in (lambda: dist.all_reduce(values), message.wait):
        try:
            wait()
        except RuntimeError as error:
            said.append(str(error))
    soon = time.monotonic() - began < 10.0
    untouched = bool((values == SIZE).all())
    dist.destroy_process_group()
    print(f"rank {rank} heard {said}; soon {soon}, input untouched {untouched}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        process = mp.get_context("fork").Process
        ranks = [
            process(target=main, args=(rank, f"file://{folder}/store")) for rank in range(SIZE)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        sys.exit([rank.exitcode for rank in ranks] != [0, 0, -signal.SIGKILL])
