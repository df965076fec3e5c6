"""The loops over all values in numpy. Pure; what every other implementation must give bit for bit.

`block` values have one factor (or unit); the last block may be shorter. A few hundred KiB at a
time, so that what one pass leaves is still in the second-level cache for the next.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]
Key = tuple[int, int]  # two words of 32 bits

FRACTION_BITS = 16  # how finely a chance is known
_TILE_VALUES = 1 << 16
_MAGNITUDE = np.int32(0x7FFFFFFF)


def largest_bits(values: Float32s, block: int, largest: Int32s) -> None:
    """largest[b] = the larger of itself and the largest magnitude in block b of any row of
    values[rows, n], as the bits of a float32.

    Magnitudes compare like their bits; infinity is above all numbers, and NaN above infinity.
    """
    length = values.shape[1]
    scratch = np.empty(min(length, _tile(block)), np.int32)
    for row in values:
        bits = row.view(np.int32)
        for blocks, span in tiles(length, block):
            magnitude = np.bitwise_and(bits[span], _MAGNITUDE, out=scratch[: _length(span)])
            np.maximum(by_block(magnitude, block).max(axis=1), largest[blocks], out=largest[blocks])


def round_nearest(values: Float32s, factors: Array, block: int, out: Int32s, add: bool) -> None:
    """out[n] = (out if add else 0) + the sum over all rows of rint(values[rows, n] * factors),
    computed in the factors' own type. `out` may be the first row, and is `add`ed to if there is
    none."""
    length = values.shape[1]
    scratch = np.empty(min(length, _tile(block)), factors.dtype)
    for blocks, span in tiles(length, block):
        scaled = scratch[: _length(span)]
        wide = factors[blocks, np.newaxis]
        for number, row in enumerate(values):
            np.multiply(by_block(row[span], block), wide, out=by_block(scaled, block))
            np.rint(scaled, out=scaled)
            if add or number:
                out[span] += scaled.astype(np.int32)
            else:
                out[span] = scaled


def round_stochastic(
    values: Float32s, factors: Float32s, block: int, key: Key, out: Array, add: bool
) -> None:
    """out = (out if add else 0) + values * factors / 2^16, rounded up or down by chance.

    Up with a probability of the fraction, known to 16 bits: so the mean over all keys is the value
    itself, to within 2^-17. The chance at a position is a hash of the position and the key alone.
    |values * factors| must not exceed 2^16 times what `out`, int16 or int8, can hold.
    """
    half = -(-block // 2)
    for blocks, span in tiles(len(values), block):
        piece = by_block(values[span], block)
        fixed = np.rint(piece * factors[blocks, np.newaxis]).astype(np.int32)
        counters = np.arange(blocks.start * half, blocks.stop * half, dtype=np.uint64)
        hashes = mixed(counters.astype(np.uint32), key).reshape(-1, half)
        width = piece.shape[1]
        low, high = min(width, half), max(0, width - half)
        fixed[:, :low] += (hashes[:, :low] & np.uint32(0xFFFF)).view(np.int32)
        fixed[:, low:] += (hashes[:, :high] >> np.uint32(16)).view(np.int32)
        fixed >>= FRACTION_BITS
        if add:
            out[span] += fixed.reshape(-1).astype(out.dtype)
        else:
            out[span] = fixed.reshape(-1)


def scaled(integers: Array, units: Array, block: int, out: Float32s) -> None:
    """out = float32(integers) * units; in float64, rounded once, where the units are float64."""
    with np.errstate(over="ignore"):
        for blocks, span in tiles(len(integers), block):
            target = by_block(out[span], block)
            if units.dtype == np.float32:
                out[span] = integers[span]
                np.multiply(target, units[blocks, np.newaxis], out=target)
            else:
                wider = by_block(integers[span], block) * units[blocks, np.newaxis]
                np.copyto(target, wider, casting="same_kind")


def to_bfloat16(values: Float32s, out: NDArray[np.uint16]) -> None:
    """out = values as the bits of the nearest bfloat16, ties to even; any NaN becomes one NaN."""
    bits = values.view(np.uint32)
    for _, span in tiles(len(values), _TILE_VALUES):
        odd = (bits[span] >> np.uint32(16)) & np.uint32(1)
        rounded = (bits[span] + (odd + np.uint32(0x7FFF))) >> np.uint32(16)
        out[span] = np.where(np.isnan(values[span]), np.uint32(0x7FC0), rounded)


def from_bfloat16(values: NDArray[np.uint16], out: Float32s, add: bool) -> None:
    """out = (out if add else 0) + the numbers whose bits as bfloat16 these are."""
    for _, span in tiles(len(values), _TILE_VALUES):
        wide = (values[span].astype(np.uint32) << np.uint32(16)).view(np.float32)
        if add:
            with np.errstate(over="ignore", invalid="ignore"):
                out[span] += wide
        else:
            out[span] = wide


def mixed(counters: NDArray[np.uint32], key: Key) -> NDArray[np.uint32]:
    """A hash of 32 bits: C. Wellons' lowbias constants over a Weyl sequence, keyed twice."""
    hashes = counters * np.uint32(0x9E3779B9) + np.uint32(key[0])
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x21F0AAAD) + np.uint32(key[1])
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(0x735A2D97)
    mixed: NDArray[np.uint32] = hashes ^ (hashes >> np.uint32(15))
    return mixed


def tiles(length: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Whole blocks a tile at a time, then the last, shorter block: (block numbers, values)."""
    whole, step = length // block, _tile(block) // block
    for first in range(0, whole, step):
        last = min(first + step, whole)
        yield slice(first, last), slice(first * block, last * block)
    if whole * block < length:
        yield slice(whole, whole + 1), slice(whole * block, length)


def _length(span: slice) -> int:
    return int(span.stop - span.start)


def by_block(values: Array, block: int) -> Array:
    return values.reshape(-1, min(block, len(values)))


def _tile(block: int) -> int:
    return max(1, _TILE_VALUES // block) * block


def copy_past_cache(source: Array, out: Array) -> None:
    out[...] = source


def look(address: int, steps: int, times: int) -> None:
    """Look at another process's progress word until it has completed so many steps or has left.

    At most `times` times: about 50 ns each in C; here not at all, as looking would take longer than
    sleeping.
    """


def add_up(
    parts: Sequence[Array], divisor: int, out: Array, copy: Array | None, past_cache: bool
) -> None:
    """out[n] = parts[0][n] + parts[1][n] + …, in this order, divided by `divisor` (1 of integers).

    The same in `copy`, where there is one. `past_cache`: `out` is much data, not read again soon.
    `out` may be the memory of one of the parts. Integers wrap around.
    """
    for _, span in tiles(len(out), _TILE_VALUES):
        total = parts[0][span].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for part in parts[1:]:
                np.add(total, part[span], out=total)
        if divisor != 1:
            np.divide(total, divisor, out=total)
        out[span] = total
        if copy is not None:
            copy[span] = total
