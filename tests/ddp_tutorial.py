"""A script of the shape of PyTorch's "Getting Started with Distributed Data Parallel".

    python tests/ddp_tutorial.py gloo 2            # starts 2 processes itself
    python tests/ddp_tutorial.py p2p 2
    torchrun --nproc-per-node 2 tests/ddp_tutorial.py p2p

The backend's name is the only difference between two runs; both print the same losses.
"""

import os
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn, optim
from torch.nn.parallel import DistributedDataParallel as DDP  # noqa: N817

import p2p.torch_backend  # noqa: F401

STEPS = 5


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net1 = nn.Linear(10, 10)
        self.relu = nn.ReLU()
        self.net2 = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net2(self.relu(self.net1(x)))


def setup(backend: str, rank: int, world_size: int, init_method: str) -> None:
    torch.set_num_threads(1)
    if init_method:
        dist.init_process_group(backend, init_method, rank=rank, world_size=world_size)
    else:
        dist.init_process_group(backend)  # torchrun has set the environment


def train(model: nn.Module, steps: int) -> list[float]:
    """The losses, averaged over all ranks."""
    loss_fn = nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    losses = []
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(torch.randn(20, 10, generator=generator))
        labels = torch.randn(20, 5, generator=generator)
        loss = loss_fn(outputs, labels)
        loss.backward()
        optimizer.step()
        shared = loss.detach().clone()
        dist.all_reduce(shared)
        losses.append(shared.item() / dist.get_world_size())
    return losses


def demo_basic() -> list[float]:
    torch.manual_seed(dist.get_rank())  # DDP gives everybody rank 0's weights
    return train(DDP(ToyModel()), STEPS)


def demo_checkpoint() -> list[float]:
    """Rank 0 saves, all load: the barrier keeps them from loading what is not there yet."""
    torch.manual_seed(100 + dist.get_rank())
    ddp_model = DDP(ToyModel())
    paths = [tempfile.mktemp(suffix=".checkpoint") if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(paths, src=0)
    path = str(paths[0])
    if dist.get_rank() == 0:
        torch.save(ddp_model.state_dict(), path)
    dist.barrier()
    ddp_model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    losses = train(ddp_model, STEPS)
    dist.barrier()
    if dist.get_rank() == 0:
        os.remove(path)
    return losses


def main(rank: int, backend: str, world_size: int, init_method: str) -> None:
    setup(backend, rank, world_size, init_method)
    losses = demo_basic() + demo_checkpoint()
    if dist.get_rank() == 0:
        print(f"{dist.get_backend()}:", *(f"{loss:.6f}" for loss in losses), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    backend = sys.argv[1]
    if "RANK" in os.environ:
        main(int(os.environ["RANK"]), backend, int(os.environ["WORLD_SIZE"]), "")
    else:
        world_size = int(sys.argv[2])
        with tempfile.TemporaryDirectory() as folder:
            arguments = (backend, world_size, f"file://{folder}/store")
            mp.start_processes(main, arguments, world_size, start_method="fork")
