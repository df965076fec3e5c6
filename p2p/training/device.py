"""What a trainer computes on: the CPU, or the GPU that its peer gave it.

Gradients of one shard go to the host's memory while the next one is computed (the exchange is the
host's); the average comes back whole. The model, its optimizer and the batches are on the device.
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from collectives.shm_memory import empty
from p2p.devices.cuda import copies_of
from p2p.errors import P2PError

CPU = torch.device("cpu")
# Without it cuBLAS adds up in an order of its own (torch.use_deterministic_algorithms asks for it).
CUBLAS_WORKSPACE = ":4096:8"


def take(gpu: str | None) -> torch.device:
    """The device from now on; `gpu` = its uuid. Call it before anything else looks for GPUs: this
    process sees no other one. Raises P2PError when CUDA cannot use it."""
    if gpu is None:
        return CPU
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise P2PError(
            f"cannot compute on {gpu}: {reason}; start this peer with --device cpu"
        ) from error
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", 0)


def moved(batch: Any, device: torch.device) -> Any:
    """All tensors of a batch on the device, in tuples, lists and dicts as they were."""
    if device == CPU:
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(each, device) for each in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(each, device) for each in batch)
    return batch


class Rows(Protocol):
    """The way of shards' values from where they are computed to rows of host memory."""

    def room(self, rows: int, values: int) -> Tensor:
        """float32[rows, values] of anything, for as long as somebody has it."""

    def fill(self, row: list[Tensor], tensors: list[Tensor]) -> None:
        """row = the tensors' values: by the next `settle` at the latest. `row` lies one after the
        other in the host's memory, seen as tensors of these shapes."""

    def settle(self) -> None: ...


class HostRows:
    def room(self, rows: int, values: int) -> Tensor:
        return torch.from_numpy(empty((rows, values), np.float32))

    def fill(self, row: list[Tensor], tensors: list[Tensor]) -> None:
        torch._foreach_copy_(row, tensors)

    def settle(self) -> None:
        pass


class DeviceRows:
    """Two flat tensors on the device take turns: one is filled while the other is copied out, to
    pinned memory that the other ranks on this host read where it lies."""

    def __init__(self, copies: Any) -> None:
        self._copies = copies
        self._turns: list[Tensor | None] = [None, None]
        self._copied: list[Any] = [None, None]  # events
        self._turn = 0

    def room(self, rows: int, values: int) -> Tensor:
        self.settle()  # an abort may have left copies on their way to memory that is let go of now
        buffer = self._copies.buffers.take(rows * values * 4)
        return torch.from_numpy(buffer.array(rows * values, np.float32).reshape(rows, values))

    def fill(self, row: list[Tensor], tensors: list[Tensor]) -> None:
        self._turn = turn = 1 - self._turn
        flat, length = self._turns[turn], sum(tensor.numel() for tensor in tensors)
        if flat is None or len(flat) != length:
            flat = self._turns[turn] = tensors[0].new_empty(length, dtype=torch.float32)
        if self._copied[turn] is not None:
            self._copies.compute_after(self._copied[turn])
        torch.cat([tensor.reshape(-1) for tensor in tensors], out=flat)
        whole = row[0].as_strided((length,), (1,))
        self._copied[turn] = self._copies.copy_out(flat, whole.numpy(), self._copies.mark())

    def settle(self) -> None:
        for event in self._copied:
            if event is not None:
                self._copies.finish(event)


def rows_from(device: torch.device) -> Rows:
    return HostRows() if device == CPU else DeviceRows(copies_of(device))
