"""The maximum of several small arrays over all ranks, in one exchange instead of one for each.

A small all-reduce costs its latency, hardly its bytes: everybody sends everything to everybody
(collectives.exchange). So arrays of different types can share one exchange of bytes, which every
rank then combines by itself. Who is alone exchanges nothing.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from collectives.reductions import reduction_of

TOGETHER_BYTES_MAX = 1 << 18  # longer ones are worth an all-reduce each, which sends less

Array = NDArray[Any]


class Group(Protocol):
    """What this needs of collectives.operations.Group."""

    size: int

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None: ...

    def all_gather_arrays(self, source: Array, out: Array) -> None: ...


def maxima(group: Group, sources: Sequence[Array], outs: Sequence[Array]) -> None:
    """outs[i][n] = the largest of all ranks' sources[i][n]; types and lengths as on all ranks.

    `sources` stay as they are and may not share memory with `outs`. Raises Aborted.
    """
    pairs = [(source, out) for source, out in zip(sources, outs, strict=True) if source.size]
    too_long = sum(source.nbytes for source, _ in pairs) > TOGETHER_BYTES_MAX
    if len(pairs) < 2 or group.size == 1 or too_long:
        for source, out in pairs:
            group.all_reduce(source, out, "max")
        return
    mine = np.concatenate([source.view(np.uint8) for source, _ in pairs])
    every = np.empty((group.size, mine.size), np.uint8)
    group.all_gather_arrays(mine, every)
    ends = accumulate((source.nbytes for source, _ in pairs), initial=0)
    for (source, out), (start, stop) in zip(pairs, pairwise(ends), strict=True):
        parts = [row[start:stop].view(source.dtype) for row in every]
        reduction_of("max", source.dtype, "").fold(parts, out)
