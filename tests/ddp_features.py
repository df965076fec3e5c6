"""What DDP and torch's other users of a process group do with p2p, beside gloo in the same run.

python tests/ddp_features.py      # 2 processes; prints a line for each; exit code 1 if one fails
"""

import os
import sys
import tempfile
import warnings
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.multiprocessing as mp
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel as DDP  # noqa: N817

import p2p.torch_backend  # noqa: F401

SIZE = 2
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "find unused parameters": {"find_unused_parameters": True},
    "gradients as bucket views": {"gradient_as_bucket_view": True},
    "static graph": {"static_graph": True},
    "allreduce hook": {},
    "fp16 hook": {},
    "PowerSGD hook": {},
    "no_sync": {},
    "join with uneven inputs": {},
}


def trained(group: dist.ProcessGroup, variant: str) -> torch.Tensor:
    """The parameters after a few steps, in buckets of about 1 KiB."""
    torch.manual_seed(1)
    layers = torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 4)
    options = {"bucket_cap_mb": 0.001, **VARIANTS[variant]}
    model = DDP(torch.nn.Sequential(*layers), process_group=group, **options)
    if variant == "allreduce hook":
        model.register_comm_hook(group, default_hooks.allreduce_hook)
    elif variant == "fp16 hook":
        model.register_comm_hook(group, default_hooks.fp16_compress_hook)
    elif variant == "PowerSGD hook":
        state = powerSGD_hook.PowerSGDState(group, 2, start_powerSGD_iter=2)
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    generator = torch.Generator().manual_seed(dist.get_rank())

    def step(number: int) -> None:
        inputs = torch.randn(8, 20, generator=generator)
        if variant == "no_sync" and number % 2 == 0:
            with model.no_sync():
                model(inputs).pow(2).sum().backward()
            return
        model(inputs).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    if variant == "join with uneven inputs":
        with model.join():
            for number in range(3 + 2 * dist.get_rank()):
                step(number)
    else:
        for number in range(5):
            step(number)
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def functionals(group: dist.ProcessGroup) -> list[list[float]]:
    """torch.compile's collectives, which reach the group from C++."""
    mine, whole = torch.arange(4.0) + dist.get_rank(), torch.arange(2.0 * SIZE)
    results = [
        functional.all_reduce(mine, "sum", group),
        functional.broadcast(mine, 1, group),
        functional.all_to_all_single(whole, None, None, group),
        *functional.all_reduce_coalesced([mine, whole], "max", group),
        *functional.all_gather_into_tensor_coalesced([mine, whole], group),
        *functional.reduce_scatter_tensor_coalesced([whole, whole], "sum", [0, 0], group),
    ]
    return [functional.wait_tensor(result).tolist() for result in results]


def objects(group: dist.ProcessGroup) -> list[Any]:
    rank, gathered, scattered = dist.get_rank(), [None] * SIZE, [None]
    everybody: list[Any] = [None] * SIZE
    dist.all_gather_object(everybody, {"rank": rank}, group=group)
    dist.gather_object(rank, gathered if rank == 0 else None, dst=0, group=group)
    dist.scatter_object_list(scattered, ["a", "b"] if rank == 0 else None, src=0, group=group)
    return [everybody, gathered, scattered]


def main(rank: int, init_method: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    timeout = timedelta(seconds=30)
    dist.init_process_group("p2p", init_method, rank=rank, world_size=SIZE, timeout=timeout)
    ours, gloo = dist.group.WORLD, dist.new_group(backend="gloo")
    assert ours is not None
    same = {name: torch.equal(trained(ours, name), trained(gloo, name)) for name in VARIANTS}
    same["functional collectives"] = functionals(ours) == functionals(gloo)
    same["object collectives"] = objects(ours) == objects(gloo)
    dist.destroy_process_group()
    if rank == 0:
        for name, equal in same.items():
            print(f"{name}: {'as gloo' if equal else 'NOT as gloo'}", flush=True)
    if not all(same.values()):
        sys.exit(1)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(main, (f"file://{folder}/store",), SIZE, start_method="fork")
