"""How a rank goes over its own and others' arrays: where they lie, and so much at a time.

Between two pieces it looks whether the generation is over, so an abort waits for no more than one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from collectives.call import Array
from collectives.kernels import copy_past_cache
from collectives.reductions import Reduction
from collectives.shm_control import Notice, OtherControl
from collectives.shm_plan import WHOLE_BYTES_MAX, Need

BLOCK_BYTES = 2 << 20  # worked on at a time
PASS_BYTES = 256 << 10  # where it is read again at once: stays in the second-level cache
PAST_CACHE_BYTES_MIN = 8 << 20  # measured: below, the cache has room for it


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank brings to the operation."""

    control: OtherControl | None  # None: ourselves
    notice: Notice
    own: Array

    def data(self, step: int, need: Need) -> Array:
        """What it offered in `step`, where it lies."""
        if self.control is None:
            return self.own[need.start : need.stop]
        dtype, length = self.own.dtype, need.length
        if self.notice.source is None:
            return self.control.staged(step, dtype, length, need.at)
        return self.control.array(self.notice.source, dtype, length, need.start)

    @property
    def in_place(self) -> bool:
        return self.notice.source is not None

    def result(self, need: Need) -> Array:
        """What it has combined, where it stays."""
        assert self.control is not None
        assert self.notice.out is not None
        return self.control.array(self.notice.out, self.own.dtype, need.length, need.start)


class Passes:
    """`check` raises Aborted when the generation is over."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def fold(
        self,
        reduction: Reduction,
        data: list[Array],
        target: Array,
        slot: Array | None,
        *,
        past_cache: bool,
    ) -> None:
        """All of `data`, in this order, combined in `target`, and in `slot` if there is one."""
        if slot is None and target.nbytes <= WHOLE_BYTES_MAX:
            reduction.fold(data, target)  # less to prepare than in one pass
            return
        for block in self._blocks(target, BLOCK_BYTES if reduction.in_one_pass else PASS_BYTES):
            copy = None if slot is None else slot[block]
            reduction.fold_twice([one[block] for one in data], target[block], copy, past_cache)

    def copy(self, source: Array, target: Array, whole: Array | None = None) -> None:
        """`whole`: what `target` is a part of; if that is large, it will not stay in the cache."""
        past_cache = whole is not None and whole.nbytes >= PAST_CACHE_BYTES_MIN
        for block in self._blocks(target, BLOCK_BYTES):
            if past_cache:
                copy_past_cache(source[block], target[block])
            else:
                target[block] = source[block]

    def _blocks(self, array: Array, size: int) -> Iterator[slice]:
        length = max(1, size // array.itemsize)
        for at in range(0, len(array), length):
            self._check()
            yield slice(at, at + length)
