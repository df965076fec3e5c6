"""The few loops that touch every value: in C where it was compiled at installation, else in numpy.

Both give the same bits (tests compare them), so trainers of one job may differ in it. All arrays
are contiguous vectors of the types the names say, or matrices of which each row is one; callers
check, since C does not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collectives.kernels import portable
from collectives.kernels.native import load
from collectives.kernels.portable import Array, Float32s, Int32s, Key

__all__ = [
    "NATIVE",
    *("largest_bits", "round_nearest", "round_stochastic", "scaled"),
    *("from_bfloat16", "to_bfloat16", "copy_past_cache", "add_up", "ADDED"),
    "look",
]

NATIVE = load()
_loops = NATIVE or portable
ADDED = ("float32", "float64", "int32", "int64", "uint32", "uint64")  # what `add_up` takes


def largest_bits(values: Float32s, block: int, largest: Int32s) -> None:
    _loops.largest_bits(values, block, largest)


def round_nearest(values: Float32s, factors: Array, block: int, out: Int32s, add: bool) -> None:
    """With float64 factors (needed for tiny numbers only) always in numpy."""
    loops = portable if factors.dtype == np.float64 else _loops
    loops.round_nearest(values, factors, block, out, add)


def round_stochastic(
    values: Float32s, factors: Float32s, block: int, key: Key, out: Array, add: bool
) -> None:
    _loops.round_stochastic(values, factors, block, key, out, add)


def scaled(integers: Array, units: Array, block: int, out: Float32s) -> None:
    loops = portable if units.dtype == np.float64 else _loops
    loops.scaled(integers, units, block, out)


def to_bfloat16(values: Float32s, out: NDArray[np.uint16]) -> None:
    _loops.to_bfloat16(values, out)


def from_bfloat16(values: NDArray[np.uint16], out: Float32s, add: bool) -> None:
    _loops.from_bfloat16(values, out, add)


def copy_past_cache(source: Array, out: Array) -> None:
    """out[n] = source[n], of one type. For much data that is not read again soon.

    Measured: three fifths of the time of a copy whose source is in the cache, 64 MB at a time.
    """
    _loops.copy_past_cache(source, out)


def add_up(
    parts: Sequence[Array], divisor: int, out: Array, copy: Array | None, past_cache: bool
) -> None:
    _loops.add_up(parts, divisor, out, copy, past_cache)


def look(address: int, steps: int, times: int) -> None:
    _loops.look(address, steps, times)


largest_bits.__doc__ = portable.largest_bits.__doc__
round_stochastic.__doc__ = portable.round_stochastic.__doc__
to_bfloat16.__doc__ = portable.to_bfloat16.__doc__
from_bfloat16.__doc__ = portable.from_bfloat16.__doc__
add_up.__doc__ = portable.add_up.__doc__
look.__doc__ = portable.look.__doc__
