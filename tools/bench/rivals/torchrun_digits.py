"""The digits job as a plain DDP script for torchrun: what its own documentation recommends.

usage: torchrun … torchrun_digits.py FOLDER EPOCHS

Model, data, batch, optimizer and threads are those of our task `digits`. Rank 0 writes a checkpoint
after every epoch; a restarted worker begins from it. Every process appends "monotonic seconds,
step, world size" to a file of its own after each optimizer step.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from p2p.tasks.digits import Digits


def main(folder: Path, epochs: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    task = Digits()
    model = task.model()
    optimizer = task.optimizer(model)
    checkpoint = folder / "checkpoint.pt"
    step = 0
    if checkpoint.exists():
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    parallel = DistributedDataParallel(model)
    data = task.dataset("train")
    per_epoch = -(-len(data) // task.global_batch)
    with (folder / f"steps-{os.getpid()}").open("a", buffering=1) as said:
        while step < epochs * per_epoch:
            epoch, at = divmod(step, per_epoch)
            order = np.random.default_rng((0, epoch)).permutation(len(data))
            batch = order[at * task.global_batch : (at + 1) * task.global_batch]
            mine = torch.from_numpy(batch[rank::size])
            task.loss(parallel, data[mine]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            said.write(f"{time.monotonic()} {step} {size}\n")
            if rank == 0 and step % per_epoch == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({**state, "step": step}, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
