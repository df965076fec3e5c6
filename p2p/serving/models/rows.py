"""Linear layers and attention over caches, of rows that do not see each other.

A row is the next token of one stream, or one of the tokens of a prompt: all are the same here. What
a row gives has the same bits whatever rows it is computed with, so what a stream says depends on no
other stream, and computing a prompt at once or token by token is one and the same.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from p2p.serving.kernels import native
from p2p.serving.kernels.native import ALIGNED_BYTES, LANES, PANEL

Linear = Callable[[Tensor], Tensor]  # float32[rows, inputs] -> float32[rows, outputs]


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What attention keeps of one stream."""

    layers: int
    heads: int
    head_width: int
    context: int  # tokens

    def bytes(self) -> int:
        """Of one stream, at most."""
        numbers = self.layers * self.heads * up_to(self.context) * up_to(self.head_width)
        return 2 * 4 * numbers


@dataclass(frozen=True, slots=True)
class Places:
    """Row r is token number places[r] of the stream in slot slots[r]; int64[rows] both, on the
    processor."""

    slots: Tensor
    places: Tensor


class Cache(Protocol):
    def attend(self, layer: int, at: Places, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Every row's query over the keys of its stream up to its own, which is kept.

        All float32[rows, heads * head_width]; the last three may be parts of one wider tensor.
        """


class Rows(Protocol):
    """One way of computing; `name` goes into the digest of what is served, since another way gives
    other bits."""

    name: str

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear: ...

    def cache(self, shape: CacheShape, slots: int) -> Cache: ...


def linear_of(rows: Rows) -> Callable[[nn.Linear], Linear]:
    return lambda module: rows.linear(module.weight, module.bias)


class NativeRows:
    """By the loops of rows.c; on the processor."""

    name = "rows-1"

    def __init__(self, library: Any) -> None:
        self._library = library

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        outputs, inputs = weight.shape
        panels = -(-outputs // PANEL)
        lacking = panels * PANEL - outputs
        wide = functional.pad(weight, (0, 0, 0, lacking)) if lacking else weight
        packed = aligned(panels, inputs, PANEL)
        packed.copy_(wide.view(panels, PANEL, inputs).transpose(1, 2))
        added = aligned(panels * PANEL).zero_()
        if bias is not None:
            added[:outputs] = bias
        function, at, plus = self._library.linear, packed.data_ptr(), added.data_ptr()

        def compute(x: Tensor, keep: tuple[Tensor, Tensor] = (packed, added)) -> Tensor:
            if x.shape[1] != inputs or x.dtype != torch.float32:
                raise ValueError(f"a linear layer of {inputs} inputs got {x.dtype} {x.shape}")
            if x.stride(1) != 1:
                x = x.contiguous()
            count = x.shape[0]
            y = torch.empty(count, panels * PANEL)
            function(x.data_ptr(), x.stride(0), at, plus, inputs, panels, y.data_ptr(), count)
            # Contiguous, since PyTorch computes a GELU of strided rows by another formula.
            return y if outputs == panels * PANEL else y[:, :outputs].contiguous()

        return compute

    def cache(self, shape: CacheShape, slots: int) -> Cache:
        return NativeCache(self._library, shape, slots)


class NativeCache:
    """Keys lie transposed, so that neighbours in memory are scores that do not add up."""

    def __init__(self, library: Any, shape: CacheShape, slots: int) -> None:
        if shape.head_width > native.HEAD_WIDTH_MAX:
            raise ValueError(f"a head is {shape.head_width} wide: {native.HEAD_WIDTH_MAX} may be")
        self._attention, self._shape, self._slots = library.attention, shape, slots
        self._width, self._capacity = up_to(shape.head_width), up_to(shape.context)
        sizes = shape.layers, slots, shape.heads, self._width * self._capacity
        # Of a slot that nobody has needed yet there is no memory, which torch.zeros would touch.
        self._keys, self._values = (torch.from_numpy(np.zeros(sizes, np.float32)) for _ in "kv")
        self._scores = torch.zeros(self._capacity)
        self._scale = ctypes.c_float(shape.head_width**-0.5)

    def attend(self, layer: int, at: Places, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shape = self._shape
        count, width = expected = at.slots.shape[0], shape.heads * shape.head_width
        for each in (query, key, value):
            # The loops believe what they are told: what is not so would be read beyond its end.
            if each.shape != expected or each.dtype != torch.float32 or each.device.type != "cpu":
                told = f"{each.dtype} {tuple(each.shape)} on {each.device}"
                raise ValueError(f"attention of float32 {expected} on the processor got {told}")
        strides = {query.stride(), key.stride(), value.stride()}
        if len(strides) > 1 or query.stride(1) != 1:
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        mixed = torch.empty(count, width)
        self._attention(
            *(query.data_ptr(), key.data_ptr(), value.data_ptr(), query.stride(0)),
            *(self._keys[layer].data_ptr(), self._values[layer].data_ptr()),
            *(at.slots.data_ptr(), at.places.data_ptr(), count, shape.heads, shape.head_width),
            *(self._width, self._capacity, self._scale, self._scores.data_ptr()),
            *(mixed.data_ptr(), width),
        )
        return mixed


def up_to(number: int, step: int = LANES) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step


def aligned(*shape: int) -> Tensor:
    """Float32 of anything, beginning where a vector may."""
    whole = torch.empty(int(torch.Size(shape).numel()) + ALIGNED_BYTES // 4)
    first = (-whole.data_ptr() % ALIGNED_BYTES) // 4
    return whole[first : first + torch.Size(shape).numel()].view(shape)
