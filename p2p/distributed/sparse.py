"""All-reduce of sparse COO tensors: everybody's entries go round, and equal indices are added."""

from collections.abc import Callable

import numpy as np
import torch

from p2p.distributed.moves import Moves
from p2p.distributed.tensors import Array, flat


def all_reduce_job(tensor: torch.Tensor, op: str) -> Callable[[Moves], None]:
    """Raises ValueError for anything but SUM of CPU tensors with equally many dense dimensions."""
    if op != "sum":
        raise ValueError(f"sparse tensors can be summed, not reduced by {op}")
    if tensor.device.type != "cpu":
        raise ValueError(f"p2p moves tensors in CPU memory, this one is on {tensor.device}")
    mine = tensor.detach().coalesce()
    shape, indices, values = mine.shape, mine.indices(), mine.values()
    sparse_dims, width = mine.sparse_dim(), values.shape[1:]

    def job(moves: Moves) -> None:
        number = np.array([*shape, sparse_dims], np.int64)
        for other in moves.all_gather(number):
            if not np.array_equal(other, number):
                raise ValueError("the ranks' sparse tensors differ in shape")
        every_index = moves.all_gather(flat([indices.contiguous()]).array)
        every_value = moves.all_gather(flat([values.contiguous()]).array)
        places = [_tensor(part, indices.dtype).view(sparse_dims, -1) for part in every_index]
        entries = [_tensor(part, values.dtype).view(-1, *width) for part in every_value]
        total = torch.sparse_coo_tensor(
            torch.cat(places, 1), torch.cat(entries), shape, check_invariants=True
        )
        with torch.no_grad():  # detach().copy_() would give new entries to the detached one only
            tensor.copy_(total.coalesce())

    return job


def _tensor(part: Array, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(part.copy()).view(dtype)
