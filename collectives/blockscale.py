"""Block-scaled int32: a sum of float32 vectors that has the same bits in every order and grouping.

Floating-point addition rounds after every step, so who adds what first changes the last bits.
Integer addition does not round. Every vector (one per shard) is therefore rounded once, to integers
times a power of two, added as int32 by anybody in any order, and turned back once. The power of two
belongs to a block of 256 values and follows from the block's largest magnitude over ALL shards (as
in block floating point: Wilkinson, "Rounding Errors in Algebraic Processes", 1963).

With e the block's exponent (every |value| < 2^e) and b = `value_bits(shards)`, a value v becomes
rint(v * 2^(b-e)), so |integer| <= 2^b and shards * 2^b < 2^31: no partial sum can overflow.
Error: |result - exact sum| <= shards * 2^(e-b-1), plus the one rounding of the result to float32.
Relative to the block's largest magnitude, with 12 shards: 2^-27 per shard.

    exponents = block_exponents(gradient)            # each shard; then the maximum over all shards
    quantize(gradient, exponents, shards, total, add=True)    # each shard; then the sum of totals
    dequantize(total, exponents, shards, out)
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from collectives import kernels

BLOCK = 256
SHARDS_MAX = 1 << 16
ZERO = -149  # the exponent of a block of zeros; every other block has a larger one
NON_FINITE = 129  # the exponent of a block with a NaN or an infinity; wins every maximum

_INFINITY = np.int32(0x7F800000)

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]


def value_bits(shards: int) -> int:
    """The largest b for which `shards` integers of magnitude <= 2^b cannot overflow an int32."""
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"shards must be between 1 and {SHARDS_MAX}, not {shards}")
    return ((2**31 - 1) // shards).bit_length() - 1


def block_count(length: int, block: int = BLOCK) -> int:
    return -(-length // block)


def block_exponents(values: Float32s, block: int = BLOCK) -> NDArray[np.int16]:
    """For each block of values[n] the smallest e with every |value| < 2^e; ZERO, NON_FINITE.

    The element-wise maximum over shards is what block_exponents would say of all of them together.
    """
    largest = np.zeros(block_count(len(values), block), np.int32)
    note_largest(values[np.newaxis], largest, block)
    return exponents_of(largest)


def note_largest(values: Float32s, largest: Int32s, block: int = BLOCK) -> None:
    """largest[b] = the larger of itself and the largest magnitude in block b of values[rows, n].

    As the bits of a float32: those compare like the magnitudes, with NaN above infinity.
    """
    for row in values:
        _check(row, np.float32)
    length = values.shape[1]
    _check(largest, np.int32)
    if len(largest) != block_count(length, block):
        raise ValueError(f"{length} values do not have {len(largest)} blocks")
    kernels.largest_bits(values, block, largest)


def exponents_of(largest: Int32s) -> NDArray[np.int16]:
    """What block_exponents says where these are the largest magnitudes, as bits."""
    _, exponents = np.frexp(np.where(largest < _INFINITY, largest, 0).view(np.float32))
    exponents = np.where(largest == 0, ZERO, exponents)
    return np.where(largest >= _INFINITY, NON_FINITE, exponents).astype(np.int16)


def all_finite(exponents: ArrayLike) -> bool:
    """False when some shard had a NaN or an infinity: then nobody may apply this step."""
    return bool(np.all(np.asarray(exponents) < NON_FINITE))


def quantize(
    values: Float32s,
    exponents: ArrayLike,
    shards: int,
    out: Int32s | None = None,
    *,
    add: bool = False,
    block: int = BLOCK,
) -> Int32s:
    """values[n] as integers, into out[n] (new if None), or added to what `out` holds.

    `exponents` are the maximum over all shards (any number type). Raises ValueError when they are
    not finite or not as many as there are blocks.
    """
    if out is None:
        out = np.zeros(len(values), np.int32)
    _check(values, np.float32)
    _check(out, np.int32)
    if len(out) != len(values):
        raise ValueError(f"out has {len(out)} values, not {len(values)}")
    checked = _exponents(exponents, len(values), block)
    kernels.round_nearest(values[np.newaxis], factors(checked, shards), block, out, add)
    return out


def dequantize(
    integers: Int32s, exponents: ArrayLike, shards: int, out: Float32s, *, block: int = BLOCK
) -> None:
    """integers[n], a sum of up to `shards` quantized vectors, as float32 in out[n].

    Every value is rounded once, to the nearest float32; infinite where the sum is beyond float32.
    """
    _check(integers, np.int32)
    _check(out, np.float32)
    if len(out) != len(integers):
        raise ValueError(f"out has {len(out)} values, not {len(integers)}")
    checked = _exponents(exponents, len(integers), block)
    kernels.scaled(integers, units(checked, shards), block, out)


def factors(exponents: ArrayLike, shards: int) -> NDArray[Any]:
    """What a block's values are multiplied by before they are rounded; `exponents` are finite."""
    shifts = value_bits(shards) - _no_zeros(exponents)
    # float32 is exact here (a power of two, then integers) unless the factor itself is too large.
    wide = np.float32 if shifts.max(initial=0) <= 127 else np.float64
    powers: NDArray[Any] = np.ldexp(wide(1), shifts)
    return powers


def units(exponents: ArrayLike, shards: int) -> NDArray[Any]:
    """What a block's sums are multiplied by to be values again; `exponents` are finite."""
    shifts = _no_zeros(exponents) - value_bits(shards)
    # float32 rounds the integer once and scales it exactly, unless the result were subnormal.
    wide = np.float32 if shifts.min(initial=0) >= -126 else np.float64
    powers: NDArray[Any] = np.ldexp(wide(1), shifts)
    return powers


def _no_zeros(exponents: ArrayLike) -> Int32s:
    """A block of zeros scales by 1, which needs no wide arithmetic."""
    given = np.asarray(exponents)
    return np.where(given <= ZERO, 0, given).astype(np.int32)


def _exponents(exponents: ArrayLike, length: int, block: int) -> NDArray[Any]:
    given = np.asarray(exponents)
    if given.shape != (block_count(length, block),):
        raise ValueError(
            f"{length} values have {block_count(length, block)} blocks, not {given.shape}"
        )
    if not all_finite(given):
        raise ValueError("a shard's values are not finite: this step must be skipped")
    return given


def _check(array: NDArray[Any], dtype: type[np.generic]) -> None:
    if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(f"a contiguous {dtype.__name__} vector is needed, not {array.dtype}")
