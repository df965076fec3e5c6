"""All-reduce of sparse COO tensors: everybody's entries go round, and equal indices are added."""

from collections.abc import Callable

import numpy as np
import torch

from collectives.plane import Group
from p2p.distributed.tensors import Array, flat


def all_reduce_job(tensor: torch.Tensor, op: str) -> Callable[[Group], None]:
    """Raises ValueError for anything but SUM of CPU tensors with equally many dense dimensions."""
    if op != "sum":
        raise ValueError(f"sparse tensors can be summed, not reduced by {op}")
    if tensor.device.type != "cpu":
        raise ValueError(f"p2p moves tensors in CPU memory, this one is on {tensor.device}")
    mine = tensor.detach().coalesce()
    shape, indices, values = mine.shape, mine.indices(), mine.values()
    sparse_dims, width = mine.sparse_dim(), values.shape[1:]

    def job(group: Group) -> None:
        numbers = np.array([mine._nnz(), sparse_dims, *shape], np.int64)
        every = np.empty((group.size, len(numbers)), np.int64)
        group.all_gather_arrays(numbers, every)
        if (every[:, 1:] != numbers[1:]).any():
            raise ValueError("the ranks' sparse tensors differ in shape")
        counts = [int(count) for count in every[:, 0]]
        every_index = _from_all(group, flat([indices.contiguous()]).array, counts)
        every_value = _from_all(group, flat([values.contiguous()]).array, counts)
        places = [_tensor(part, indices.dtype).view(sparse_dims, -1) for part in every_index]
        entries = [_tensor(part, values.dtype).view(-1, *width) for part in every_value]
        total = torch.sparse_coo_tensor(
            torch.cat(places, 1), torch.cat(entries), shape, check_invariants=True
        )
        with torch.no_grad():  # detach().copy_() would give new entries to the detached one only
            tensor.copy_(total.coalesce())

    return job


def _from_all(group: Group, mine: Array, counts: list[int]) -> list[Array]:
    """Everybody's array, by rank; counts[r] times what each entry takes is its length."""
    width = mine.size // counts[group.rank] if counts[group.rank] else 0
    widths = np.empty((group.size, 1), np.int64)
    group.all_gather_arrays(np.array([width], np.int64), widths)  # 0 of who has no entry
    receives = [count * int(widths.max()) for count in counts]
    out = np.empty(sum(receives), mine.dtype)
    group.all_to_all(np.tile(mine, group.size), out, [mine.size] * group.size, receives)
    return np.split(out, np.cumsum(receives)[:-1])


def _tensor(part: Array, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(part.copy()).view(dtype)
