"""What torch's calls of a process group have in common: their arguments, and their way to work.

Names and arguments of the calls are torch's, which makes some of them from C++ and some from
Python, with tensors alone or in lists, with options or without.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch

from p2p.distributed.engine import Engine, Job
from p2p.distributed.work import GroupWork

Tensors = Sequence[torch.Tensor]


class Calls:
    """Dense CPU and CUDA tensors of any type; sparse CPU ones in allreduce.

    Arguments that do not fit raise ValueError at once; all else is told by the handle.
    """

    engine: Engine

    def submit(
        self, name: str, outputs: Tensors, job: Job, opts: Any, timeout: Any = None
    ) -> GroupWork:
        own = opts if isinstance(opts, timedelta) else timeout or getattr(opts, "timeout", None)
        if own is None or own <= timedelta(0):  # torch says "unset" by a negative time
            own = self.engine.timeout
        return self.engine.submit(name, outputs, job, own)

    def cut(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """One equal part per rank, of the memory in order."""
        if whole.numel() % self.engine.size or not whole.is_contiguous():
            parts = f"{self.engine.size} equal parts"
            raise ValueError(
                f"a contiguous tensor of {parts} is needed, not one of shape {tuple(whole.shape)}"
            )
        return (
            list(whole.detach().view(-1).chunk(self.engine.size))
            if whole.numel()
            else [whole.detach().view(-1) for _ in range(self.engine.size)]
        )

    def check_parts(self, name: str, parts: Sequence[Any]) -> None:
        if len(parts) != self.engine.size:
            raise ValueError(
                f"{name} needs {self.engine.size} tensors, one per rank, not {len(parts)}"
            )


def as_list(tensors: Any) -> list[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def as_lists(lists: Any) -> list[list[torch.Tensor]]:
    """One list per tensor that goes with it; torch also passes the list alone."""
    return [list(lists)] if isinstance(lists[0], torch.Tensor) else [list(one) for one in lists]


def by_rank(lists: Sequence[Tensors]) -> list[list[torch.Tensor]]:
    return [list(parts) for parts in zip(*lists, strict=True)]
