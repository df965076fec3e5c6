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

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 256
SHARDS_MAX = 1 << 16
ZERO = -149  # the exponent of a block of zeros; every other block has a larger one
NON_FINITE = 129  # the exponent of a block with a NaN or an infinity; wins every maximum

_TILE_BLOCKS = 256  # 256 KiB of float32: temporaries stay in the second-level cache
_MAGNITUDE = np.int32(0x7FFFFFFF)
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
    _check(values, np.float32)
    largest = np.zeros(block_count(len(values), block), np.int32)
    bits = values.view(np.int32)  # magnitudes compare like their bits, NaN above infinity
    scratch = np.empty(min(len(values), _TILE_BLOCKS * block), np.int32)
    for blocks, span in _tiles(len(values), block):
        magnitude = np.bitwise_and(bits[span], _MAGNITUDE, out=scratch[: span.stop - span.start])
        np.max(_by_block(magnitude, block), axis=1, out=largest[blocks])
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
    shifts = value_bits(shards) - _exponents(exponents, len(values), block)
    # float32 is exact here (a power of two, then integers) unless the factor itself is too large.
    wide = np.float32 if shifts.max(initial=0) <= 127 else np.float64
    scales = np.ldexp(wide(1), shifts)[:, np.newaxis]
    scratch = np.empty(min(len(values), _TILE_BLOCKS * block), wide)
    for blocks, span in _tiles(len(values), block):
        scaled = scratch[: span.stop - span.start]
        np.multiply(_by_block(values[span], block), scales[blocks], out=_by_block(scaled, block))
        np.rint(scaled, out=scaled)
        if add:
            out[span] += scaled.astype(np.int32)
        else:
            out[span] = scaled
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
    shifts = _exponents(exponents, len(integers), block) - value_bits(shards)
    # float32 rounds the integer once and scales it exactly, unless the result were subnormal.
    wide = np.float32 if shifts.min(initial=0) >= -126 else np.float64
    scales = np.ldexp(wide(1), shifts)[:, np.newaxis]
    with np.errstate(over="ignore"):
        for blocks, span in _tiles(len(integers), block):
            target = _by_block(out[span], block)
            if wide is np.float32:
                out[span] = integers[span]
                np.multiply(target, scales[blocks], out=target)
            else:
                wider = _by_block(integers[span], block) * scales[blocks]
                np.copyto(target, wider, casting="same_kind")


def _exponents(exponents: ArrayLike, length: int, block: int) -> NDArray[np.int32]:
    """Checked, as int32; a block of zeros scales by 1, which needs no wide arithmetic."""
    given = np.asarray(exponents)
    if given.shape != (block_count(length, block),):
        raise ValueError(
            f"{length} values have {block_count(length, block)} blocks, not {given.shape}"
        )
    if not all_finite(given):
        raise ValueError("a shard's values are not finite: this step must be skipped")
    return np.where(given <= ZERO, 0, given).astype(np.int32)


def _tiles(length: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Whole blocks a tile at a time, then the last, shorter block: (block numbers, values)."""
    whole = length // block
    for first in range(0, whole, _TILE_BLOCKS):
        last = min(first + _TILE_BLOCKS, whole)
        yield slice(first, last), slice(first * block, last * block)
    if whole * block < length:
        yield slice(whole, whole + 1), slice(whole * block, length)


def _by_block(values: NDArray[Any], block: int) -> NDArray[Any]:
    return values.reshape(-1, min(block, len(values)))


def _check(array: NDArray[Any], dtype: type[np.generic]) -> None:
    if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(f"a contiguous {dtype.__name__} vector is needed, not {array.dtype}")
