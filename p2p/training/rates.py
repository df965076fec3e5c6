"""The task's learning-rate schedule: one torch scheduler, moved by every applied step on all alike.

What it counts is state: it goes into the state's hash, checkpoints and to joiners as one tensor of
bytes (msgpack, keys sorted), so that who takes over a run takes its learning rate over, too.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgpack
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from p2p.training.blame import TaskFailed, user_code

NAME = "schedule.state"  # of the tensor, beside the model's and "optimizer.…"


class Rates:
    """`scheduler` None = the learning rate stays as the optimizer has it. Raises TaskFailed for a
    scheduler whose state cannot travel, or that goes by something else than the steps."""

    def __init__(self, scheduler: LRScheduler | None = None, file: str | None = None) -> None:
        self.scheduler, self._file = scheduler, file
        if isinstance(scheduler, ReduceLROnPlateau):
            raise TaskFailed(
                "schedule() gave a ReduceLROnPlateau, which does not go by the steps: give another "
                "scheduler of torch.optim.lr_scheduler, or a function of the step"
            )
        self.pack()

    def advance(self, steps: int) -> None:
        """So many steps were applied."""
        if self.scheduler is not None:
            with user_code(self._file):
                for _ in range(steps):
                    self.scheduler.step()

    def tensors(self) -> dict[str, Tensor]:
        """The state as uint8[bytes]; nothing without a scheduler."""
        if self.scheduler is None:
            return {}
        return {NAME: torch.frombuffer(bytearray(self.pack()), dtype=torch.uint8)}

    def pack(self) -> bytes:
        if self.scheduler is None:
            return b""
        try:
            packed: bytes = msgpack.packb(_sorted(self.scheduler.state_dict()))
        except (TypeError, ValueError, OverflowError) as error:
            kind = type(self.scheduler).__name__
            raise TaskFailed(
                f"the state of the scheduler {kind} cannot travel to other peers: {error}"
            ) from error
        return packed

    def unpack(self, packed: bytes) -> dict[str, Any]:
        """What `restore` takes. Raises ValueError when it is not of this scheduler."""
        found = msgpack.unpackb(packed, strict_map_key=False) if packed else {}
        own = {} if self.scheduler is None else self.scheduler.state_dict()
        if not isinstance(found, dict) or found.keys() != own.keys():
            raise ValueError("the learning-rate schedule is another one")
        return {key: _like(own[key], value) for key, value in found.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """The optimizer's own settings are restored with the optimizer."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """What `pack` gave, of a state's tensors."""
    return bytes(tensors[NAME].numpy()) if NAME in tensors else b""


def _sorted(value: Any) -> Any:
    """Equal states give equal bytes, however their maps came about."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=repr)}
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


def _like(example: Any, value: Any) -> Any:
    """`value` with the types that packing lost."""
    if isinstance(example, Counter):
        return Counter(value)
    if isinstance(example, dict) and isinstance(value, dict):
        return {key: _like(example.get(key), one) for key, one in value.items()}
    if isinstance(example, list | tuple) and isinstance(value, list):
        examples = [*example, *[None] * (len(value) - len(example))]
        return type(example)(_like(a, b) for a, b in zip(examples, value, strict=False))
    return value
