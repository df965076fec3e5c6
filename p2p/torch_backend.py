"""`import p2p.torch_backend`, then `torch.distributed.init_process_group("p2p", …)`.

Registers the backend "p2p" for CPU and CUDA tensors, and lets
`torch.distributed.monitored_barrier` reach groups of it (torch asks for gloo by name there).
Everything else is torch's own: rendezvous by any init_method or torchrun, sub-groups, DDP. What is
there and what is not: docs/torch_backend.md.
"""

import functools
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

__all__ = ["register"]

NAME = "p2p"


def register() -> None:
    """Make the backend known to torch. Idempotent; importing this module has done it."""
    if NAME in dist.Backend.backend_list:
        return
    dist.Backend.register_backend(NAME, _create, extended_api=True, devices=["cpu", "cuda"])
    reach = _reaching(c10d.monitored_barrier)
    c10d.monitored_barrier = dist.monitored_barrier = reach


def _create(options: Any, _: Any) -> Any:
    from p2p.distributed.group import ProcessGroupP2P

    rank, size = options.group_rank, options.group_size
    return ProcessGroupP2P(options.store, rank, size, options.timeout, str(options.group_id))


def _reaching(original: Any) -> Any:
    @functools.wraps(original)
    def monitored_barrier(
        group: Any = None, timeout: Any = None, wait_all_ranks: bool = False
    ) -> Any:
        member = group is not dist.GroupMember.NON_GROUP_MEMBER
        if not member or dist.get_backend(group) != NAME:
            return original(group, timeout, wait_all_ranks)
        if isinstance(timeout, int | float):
            timeout = timedelta(seconds=timeout)
        mine: Any = dist.group.WORLD if group is None else group
        return mine.monitored_barrier(timeout, wait_all_ranks)

    return monitored_barrier


register()
