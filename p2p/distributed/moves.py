"""What a group's worker does with flat arrays, over one generation of the data plane."""

from typing import Any

import numpy as np

from collectives.plane import Group
from p2p.distributed.tensors import Array, octets

_COMBINE: dict[str, Any] = {
    "sum": np.add,
    "mean": np.add,
    "product": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}


class Moves:
    """Every method is called by all ranks in the same order. Raises Aborted."""

    def __init__(self, group: Group) -> None:
        self.group, self.rank, self.size = group, group.rank, group.size

    def all_reduce(self, source: Array, op: str, number: str = "") -> Array:
        """New memory: all ranks' `source` combined; `source` stays as it is."""
        if number == "bfloat16":
            wide = (source.astype(np.uint32) << np.uint32(16)).view(np.float32)
            bits = self.all_reduce(wide, op).view(np.uint32)
            rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            return ((bits + rounding) >> np.uint32(16)).astype(np.uint16)
        if source.dtype == np.float16:
            return self.all_reduce(source.astype(np.float32), op).astype(np.float16)
        if op in ("sum", "max", "mean") and source.dtype.kind in "fiu" and source.size:
            out = np.empty_like(source)
            self.group.all_reduce(source, out, "max" if op == "max" else "sum")
        else:
            parts = self.all_gather(source)
            out = parts[0].copy()
            for part in parts[1:]:
                _COMBINE[op](out, part, out=out)
        if op == "mean":
            np.divide(out, self.size, out=out)
        return out

    def all_gather(self, source: Array) -> list[Array]:
        """Everybody's, by rank; they may differ in length."""
        parts: list[Any] = [b""] * self.size
        parts[self.rank] = octets(source)
        for step in range(1, self.size):
            to, sender = (self.rank + step) % self.size, (self.rank - step) % self.size
            self.group.send(to, octets(source))
            parts[sender] = self.group.receive(sender)
        return [np.frombuffer(part, source.dtype) for part in parts]

    def broadcast(self, array: Array, root: int) -> None:
        if self.rank == root:
            for to in range(self.size):
                if to != root:
                    self.group.send(to, octets(array))
        else:
            self.group.receive(root, octets(array))

    def gather(self, source: Array, root: int) -> list[Array]:
        if self.rank != root:
            self.group.send(root, octets(source))
            return []
        parts: list[Any] = [octets(source)] * self.size
        for rank in range(self.size):
            if rank != root:
                parts[rank] = self.group.receive(rank)
        return [np.frombuffer(part, source.dtype) for part in parts]

    def scatter(self, parts: list[Array], out: Array, root: int) -> None:
        """`parts` on the root only."""
        if self.rank != root:
            self.group.receive(root, octets(out))
            return
        for rank, part in enumerate(parts):
            if rank == root:
                np.copyto(out, part)
            else:
                self.group.send(rank, octets(part))

    def all_to_all(self, parts: list[Array], outs: list[Array]) -> None:
        np.copyto(outs[self.rank], parts[self.rank])
        for step in range(1, self.size):
            to, sender = (self.rank + step) % self.size, (self.rank - step) % self.size
            self.group.send(to, octets(parts[to]))
            self.group.receive(sender, octets(outs[sender]))
