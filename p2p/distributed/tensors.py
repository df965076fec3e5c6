"""Tensors as the flat arrays that travel. Shares memory wherever the layout allows it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.distributed import ReduceOp

from p2p.devices import cuda as far
from p2p.devices.staging import Passage

Array = np.ndarray[Any, Any]
Room = Callable[[int], Array]  # so many bytes that the other ranks may read where they lie

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
    """Raises ValueError when these are not dense tensors of one device that can be reached."""
    for tensor in tensors:
        if tensor.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"p2p moves tensors in CPU and CUDA memory, this one is on {tensor.device}: "
                "pass its .cpu()"
            )
        if tensor.device != tensors[0].device:
            raise ValueError(f"tensors on {tensors[0].device} and {tensor.device} in one call")
        if tensor.layout is not torch.strided:
            raise ValueError(f"p2p only all-reduces {tensor.layout} tensors: pass its .to_dense()")


class Flat:
    """One array for one or several tensors, in their order.

    `number` names the type where numpy's does not. `ready` and `rounds` may wait, so they are for
    the thread that runs the collective.
    """

    def __init__(
        self, array: Array, number: str = "", commit: Callable[[], None] = lambda: None
    ) -> None:
        self.array, self.number = array, number
        self.commit = commit  # writes the array to the tensors

    def ready(self) -> None:
        """Return when the array has the tensors' values."""

    @contextmanager
    def rounds(self, room: Room, *, writes: bool = True) -> Iterator[Iterable[tuple[Array, Array]]]:
        """Pairs of arrays: what to reduce, and where to; the tensors have it after the block. They
        are as before if it raises, or does not write."""
        source = room(self.array.nbytes).view(self.array.dtype)
        np.copyto(source, self.array)
        try:
            yield [(source, self.array)]
        except BaseException:
            np.copyto(self.array, source)
            raise
        if writes:
            self.commit()


class FarFlat(Flat):
    """Tensors on another device: the array is near, copies go by streams of their own."""

    def __init__(self, tensors: Sequence[torch.Tensor], copies: Any, *, filled: bool) -> None:
        self._tensors, self._copies = [tensor.detach() for tensor in tensors], copies
        dtype, number = _numpy_type(tensors[0].dtype)
        counts = [tensor.nbytes // np.dtype(dtype).itemsize for tensor in tensors]
        ends = [0, *np.cumsum(counts).tolist()]
        self._places = [slice(a, b) for a, b in pairwise(ends)]
        self._buffer = copies.buffers.take(ends[-1] * np.dtype(dtype).itemsize)
        super().__init__(self._buffer.array(ends[-1], dtype), number, self._copy_in)
        self._start = copies.mark()
        for tensor, place in zip(self._tensors, self._places, strict=True) if filled else ():
            self._buffer.until = copies.copy_out(tensor, self.array[place], self._start)

    def ready(self) -> None:
        if self._buffer.until is not None:
            self._copies.finish(self._buffer.until)

    @contextmanager
    def rounds(self, room: Room, *, writes: bool = True) -> Iterator[Iterable[tuple[Array, Array]]]:
        self.ready()
        result = self._copies.buffers.take(self.array.nbytes).array(
            len(self.array), self.array.dtype
        )
        yield [(self.array, result)]
        if writes:
            np.copyto(self.array, result)
            self.commit()

    def _copy_in(self) -> None:
        for tensor, place in zip(self._tensors, self._places, strict=True):
            self._buffer.until = self._copies.copy_in(self.array[place], tensor, self._start)


class Passing(Flat):
    """One dense tensor on another device, reduced chunk by chunk while others are on their way."""

    def __init__(self, tensor: torch.Tensor, copies: Any) -> None:
        dtype, number = _numpy_type(tensor.dtype)
        super().__init__(np.empty(0, dtype), number)
        self._passage = Passage(copies, copies.buffers, tensor.detach().view(-1), dtype)

    @contextmanager
    def rounds(self, room: Room, *, writes: bool = True) -> Iterator[Iterable[tuple[Array, Array]]]:
        try:
            yield self._passage.rounds(writes=writes)
        except BaseException:
            self._passage.restore()
            raise


def reducible(tensors: Sequence[torch.Tensor]) -> Flat:
    """The tensors for `rounds`."""
    first = tensors[0]
    if len(tensors) == 1 and far.is_far(first) and is_plain(first):
        return Passing(first, far.copies_of(first.device))
    return flat(tensors)


def is_plain(tensor: torch.Tensor) -> bool:
    """Its values lie one after the other, as they are."""
    return tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def flat(tensors: Sequence[torch.Tensor], *, filled: bool = True) -> Flat:
    """The tensors' values, one after another (any values unless `filled`). All are of one type."""
    if not tensors:
        return Flat(np.empty(0, np.uint8))
    first = tensors[0]
    if far.is_far(first):
        return FarFlat(tensors, far.copies_of(first.device), filled=filled)
    if len(tensors) == 1 and is_plain(first):
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
    _, number = _numpy_type(values.dtype)
    seen_as = {"bfloat16": torch.uint16, "": values.dtype}.get(number, torch.uint8)
    return values.view(seen_as).numpy(), number


@cache
def _numpy_type(kind: torch.dtype) -> tuple[Any, str]:
    """As which numpy type values travel, and how the type is named where that is another one."""
    if kind is torch.bfloat16:
        return np.dtype(np.uint16), "bfloat16"
    try:
        return torch.empty(0, dtype=kind).numpy().dtype, ""
    except TypeError:  # a type that numpy does not know: it can be moved, not reduced
        return np.dtype(np.uint8), str(kind)


def octets(array: Array) -> memoryview:
    """The array's memory, byte by byte."""
    return memoryview(array.reshape(-1).view(np.uint8)).cast("B")  # type: ignore[arg-type]
