"""The same as p2p.serving.models.rows in PyTorch alone: for GPUs, other processors, no compiler.

A product of matrices adds up in an order that depends on how many rows it has. So it always has
TILE here, some of them zeros: what a row gives depends on its own numbers then, which a replica
checks before it answers anybody. Attention is computed for one row after the other.
"""

import torch
from torch import Tensor
from torch.nn import functional

from p2p.serving.models.rows import Cache, CacheShape, Linear, Places

TILE = 16


class TiledRows:
    def __init__(self, device: torch.device) -> None:
        self.device, self.name = device, f"tiles-{TILE}-{device.type}"

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        def compute(x: Tensor) -> Tensor:
            count = len(x)
            padded = functional.pad(x, (0, 0, 0, -count % TILE))
            tiles = [functional.linear(tile, weight, bias) for tile in torch.split(padded, TILE)]
            return torch.cat(tiles)[:count]

        return compute

    def cache(self, shape: CacheShape, slots: int) -> Cache:
        return TiledCache(shape, slots, self.device)


class TiledCache:
    def __init__(self, shape: CacheShape, slots: int, device: torch.device) -> None:
        self._heads, self._scale = shape.heads, shape.head_width**-0.5
        sizes = shape.layers, slots, shape.heads, shape.context, shape.head_width
        self._keys = torch.zeros(sizes, device=device)
        self._values = torch.zeros(sizes, device=device)

    def attend(self, layer: int, at: Places, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = self._heads, 1, -1
        mixed = torch.empty(query.shape, device=query.device)
        keys, values = self._keys[layer], self._values[layer]
        every = list(zip(at.slots.tolist(), at.places.tolist(), strict=True))
        for row, (slot, place) in enumerate(every):
            keys[slot, :, place] = key[row].reshape(self._heads, -1)
            values[slot, :, place] = value[row].reshape(self._heads, -1)
        for row, (slot, place) in enumerate(every):
            seen = keys[slot, :, : place + 1]
            scores = query[row].reshape(heads) @ seen.transpose(1, 2) * self._scale
            out = torch.softmax(scores, dim=-1) @ values[slot, :, : place + 1]
            mixed[row] = out.reshape(-1)
        return mixed
