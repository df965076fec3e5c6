"""The digits job as a plain torchft script: the loop of its README, with one flat all-reduce.

usage: torchft_digits.py FOLDER NUMBER      (TORCHFT_LIGHTHOUSE says where its lighthouse is)

One process is one replica group. Model, data, batch, optimizer and threads are those of our task
`digits`. A step whose all-reduce failed is thrown away by all that are left (`should_commit`).
Every process appends "monotonic seconds, step, replicas" to a file of its own after each step.
"""

import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch._C._distributed_c10d import TCPStore
from torchft import Manager, ProcessGroupGloo  # type: ignore[import-not-found]

from p2p.tasks.digits import Digits

TIMEOUT_S = 5.0  # of an operation, by default 60
QUORUM_TIMEOUT_S = 20.0  # until all are there; by default 60


def main(folder: Path, number: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    timeout = timedelta(seconds=TIMEOUT_S)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    task = Digits()
    model = task.model()
    optimizer = task.optimizer(model)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=timeout),
        load_state_dict=model.load_state_dict,
        state_dict=model.state_dict,
        min_replica_size=1,
        timeout=timeout,
        quorum_timeout=timedelta(seconds=QUORUM_TIMEOUT_S),
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        replica_id=f"digits-{number}",
        hostname="127.0.0.1",
        init_sync=False,  # all begin with the same weights
    )
    data = task.dataset("train")
    per_epoch = -(-len(data) // task.global_batch)
    parameters = list(model.parameters())
    with (folder / f"steps-{number}").open("a", buffering=1) as said:
        while True:
            manager.start_quorum()
            step = manager.current_step()
            epoch, at = divmod(step, per_epoch)
            order = np.random.default_rng((0, epoch)).permutation(len(data))
            batch = order[at * task.global_batch : (at + 1) * task.global_batch]
            size, rank = manager.num_participants(), manager.participating_rank() or 0
            mine = torch.from_numpy(batch[rank::size])
            task.loss(model, data[mine]).backward()  # type: ignore[no-untyped-call]
            flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
            manager.allreduce(flat).wait()
            for p, gradient in zip(
                parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True
            ):
                p.grad = gradient.view_as(p)
            if manager.should_commit():
                optimizer.step()
                said.write(f"{time.monotonic()} {step + 1} {size}\n")
            optimizer.zero_grad()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
