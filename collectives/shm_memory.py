"""Registered memory: arrays that other processes on this host can read where they lie.

Small arrays share segments, large ones have one each; what is freed is used again, because fresh
pages cost more than an all-reduce of them (the kernel zeroes each at its first use).
"""

import contextlib
import ctypes
import math
import os
import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from collectives import futex
from collectives.shm_segments import Location, Segment

ALIGNMENT = 64  # a cache line, and the widest vector register
SHARED_BYTES = 4 << 20  # one segment for small arrays
SMALL_BYTES_MAX = 1 << 20  # a larger array has a segment of its own
FREE_BYTES_MAX = 64 << 20  # how much unused memory is kept for the next array
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies, as others find it: segment `number` is never used again."""

    number: int
    location: Location
    offset: int


@dataclass(slots=True)
class _Kept:
    segment: Segment
    start: int  # address
    shared: bool  # by small arrays
    arrays: int = 0
    used: int = 0  # bytes from the start that may be in use


class RegisteredMemory:
    """The segments of one process. May be used from any thread. `MEMORY` is the one there is."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._starts: list[tuple[int, int]] = []  # (address, number), by address
        self._made = 0
        self._lock = threading.Lock()
        self._let_go: deque[int] = deque()  # numbers of segments, filled by finalizers
        self.broken = False  # others could not open what is here: it is not to be offered again
        self.forgotten = 0  # how many segments have been closed: others look their mappings over

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An array that may hold anything. Raises OSError when there is no memory for it."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) if not isinstance(shape, int) else shape
        size = -(-max(1, count * dtype.itemsize) // ALIGNMENT) * ALIGNMENT
        with self._lock:
            self._reclaim()
            number = self._room(size)
            kept = self._kept[number]
            owner = (ctypes.c_char * size).from_buffer(kept.segment.memory, kept.used)
            kept.used += size
            kept.arrays += 1
        weakref.finalize(owner, self._let_go.append, number).atexit = False
        return np.frombuffer(memoryview(owner), dtype, count).reshape(shape)

    def find(self, array: NDArray[Any]) -> Place | None:
        """Where this contiguous array lies, None when it is not in registered memory."""
        address = array.__array_interface__["data"][0]
        with self._lock:
            self._reclaim()
            at = bisect_right(self._starts, (address, 1 << 62)) - 1
            if at < 0:
                return None
            start, number = self._starts[at]
            location = self._kept[number].segment.location
        inside = address + array.nbytes <= start + location.size
        return Place(number, location, address - start) if inside else None

    def forget_all(self) -> None:
        """In the child of a fork: what lies here is its parent's, and both see what either writes.

        Arrays stay what they are; they are not found any more.
        """
        for kept in self._kept.values():
            kept.segment.close()
        self._start()

    def trim(self) -> None:
        """Give back all that no array uses."""
        with self._lock:
            self._reclaim(0)

    def _room(self, size: int) -> int:
        """The number of a segment with so much unused memory at `used`."""
        small = size <= SMALL_BYTES_MAX
        fitting = [
            (kept.segment.location.size, number)
            for number, kept in self._kept.items()
            if kept.used + size <= kept.segment.location.size
            and kept.shared == small
            and (small or kept.arrays == 0)
        ]
        if fitting and (small or min(fitting)[0] <= 2 * size):
            return min(fitting)[1]
        self._made += 1
        segment = Segment(SHARED_BYTES if small else -(-size // _PAGE) * _PAGE)
        self._kept[self._made] = _Kept(segment, segment.address, small)
        self._starts = sorted((kept.start, number) for number, kept in self._kept.items())
        return self._made

    def _reclaim(self, free_bytes_max: int = FREE_BYTES_MAX) -> None:
        """Take back what nobody uses any more; close the largest of too much."""
        if not self._let_go and free_bytes_max:
            return
        while self._let_go:
            kept = self._kept.get(self._let_go.popleft())
            if kept is not None:
                kept.arrays -= 1
                kept.used = kept.used if kept.arrays else 0
        free = sorted(
            (kept.segment.location.size, number)
            for number, kept in self._kept.items()
            if kept.arrays == 0
        )
        while sum(size for size, _ in free) > free_bytes_max:
            self._forget(free.pop()[1])

    def _forget(self, number: int) -> None:
        self._kept.pop(number).segment.close()
        self._starts = sorted((kept.start, number) for number, kept in self._kept.items())
        self.forgotten += 1


MEMORY = RegisteredMemory()


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array that the ranks on this host can read where it lies; it may hold anything.

    For sources of collectives that are used again and again: of others more is copied. Where memory
    cannot be shared, an array like any other.
    """
    if futex.available():
        with contextlib.suppress(OSError):
            return MEMORY.empty(shape, dtype)
    return np.empty(shape, dtype)


os.register_at_fork(after_in_child=MEMORY.forget_all)
