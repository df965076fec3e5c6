"""Tensors as the flat arrays that travel. Shares memory wherever the layout allows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.distributed import ReduceOp

Array = np.ndarray[Any, Any]

_OPERATIONS = (
    (ReduceOp.SUM, "sum"),
    (ReduceOp.AVG, "mean"),
    (ReduceOp.PRODUCT, "product"),
    (ReduceOp.MAX, "max"),
    (ReduceOp.MIN, "min"),
    (ReduceOp.BAND, "band"),
    (ReduceOp.BOR, "bor"),
    (ReduceOp.BXOR, "bxor"),
)


def operation(op: Any) -> str:
    """The name of a ReduceOp. Raises ValueError for those that only NCCL has."""
    for known, name in _OPERATIONS:
        if op == known:
            return name
    raise ValueError(f"p2p cannot reduce by {op}: use SUM, AVG, PRODUCT, MIN, MAX or a bitwise one")


def check(tensors: Sequence[torch.Tensor]) -> None:
    """Raises ValueError when these are not dense CPU tensors."""
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ValueError(
                f"p2p moves tensors in CPU memory, this one is on {tensor.device}: pass its .cpu()"
            )
        if tensor.layout is not torch.strided:
            raise ValueError(f"p2p only all-reduces {tensor.layout} tensors: pass its .to_dense()")


@dataclass
class Flat:
    """One array for one or several tensors, in their order."""

    array: Array
    number: str = ""  # names the type where numpy's does not
    commit: Callable[[], None] = field(default=lambda: None)  # writes the array to the tensors


def flat(tensors: Sequence[torch.Tensor], *, filled: bool = True) -> Flat:
    """The tensors' values, one after another (any values unless `filled`). All are of one type."""
    if not tensors:
        return Flat(np.empty(0, np.uint8))
    first = tensors[0]
    lazy = first.is_conj() or first.is_neg()
    if len(tensors) == 1 and first.is_contiguous() and not lazy:
        array, number = _as_numpy(first.detach().view(-1))
        return Flat(array, number)
    if filled:
        whole = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    else:
        whole = torch.empty(sum(tensor.numel() for tensor in tensors), dtype=first.dtype)
    array, number = _as_numpy(whole)

    def commit() -> None:
        at = 0
        for tensor in tensors:
            tensor.detach().copy_(whole[at : at + tensor.numel()].view(tensor.shape))
            at += tensor.numel()

    return Flat(array, number, commit)


def _as_numpy(values: torch.Tensor) -> tuple[Array, str]:
    if values.dtype is torch.bfloat16:
        return values.view(torch.uint16).numpy(), "bfloat16"
    try:
        return values.numpy(), ""
    except TypeError:  # a type that numpy does not know: it can be moved, not reduced
        return values.view(torch.uint8).numpy(), str(values.dtype)


def octets(array: Array) -> memoryview:
    """The array's memory, byte by byte."""
    return memoryview(array.reshape(-1).view(np.uint8)).cast("B")  # type: ignore[arg-type]
