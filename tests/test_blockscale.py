"""Block-scaled int32: the same bits in any order and grouping, within a stated error."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from collectives.blockscale import (
    BLOCK,
    NON_FINITE,
    ZERO,
    Float32s,
    all_finite,
    block_count,
    block_exponents,
    dequantize,
    quantize,
    value_bits,
)

LENGTHS = [0, 1, 255, 256, 257, 1000, 70_001]
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL_BLOCK = 4  # property tests see many blocks in few values


@st.composite
def shard_gradients(draw: st.DrawFn) -> list[Float32s]:
    shards, length = draw(st.integers(1, 7)), draw(st.integers(0, 21))
    return [draw(arrays(np.float32, length, elements=FLOAT32)) for _ in range(shards)]


def agreed(shards: list[Float32s], block: int = BLOCK) -> NDArray[np.int16]:
    largest: NDArray[np.int16] = np.maximum.reduce(
        [block_exponents(values, block) for values in shards]
    )
    return largest


def total(shards: list[Float32s], block: int = BLOCK) -> Float32s:
    """What one trainer with all the shards computes."""
    exponents, out = agreed(shards, block), np.empty(len(shards[0]), np.float32)
    sums = np.zeros(len(out), np.int32)
    for values in shards:
        quantize(values, exponents, len(shards), sums, add=True, block=block)
    dequantize(sums, exponents, len(shards), out, block=block)
    return out


@given(shard_gradients(), st.data())
def test_the_sum_does_not_depend_on_order_or_grouping(
    shards: list[Float32s], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(shards))
    inner = st.sets(st.integers(1, len(shards) - 1)) if len(shards) > 1 else st.just(set[int]())
    cuts = [0, *sorted(data.draw(inner)), len(shards)]
    exponents = np.full(block_count(len(shards[0]), SMALL_BLOCK), -np.inf)
    sums = np.zeros(len(shards[0]), np.int32)
    for start, stop in pairwise(cuts):  # each group is one trainer
        exponents = np.maximum(exponents, agreed(order[start:stop], SMALL_BLOCK))
    for start, stop in pairwise(cuts):
        part = np.zeros_like(sums)
        for values in order[start:stop]:
            part += quantize(values, exponents, len(shards), block=SMALL_BLOCK)
        sums += part
    out = np.empty(len(sums), np.float32)
    dequantize(sums, exponents, len(shards), out, block=SMALL_BLOCK)
    assert out.tobytes() == total(shards, SMALL_BLOCK).tobytes()


@given(shard_gradients())
def test_the_error_is_within_the_stated_bound(shards: list[Float32s]) -> None:
    """Module docstring: shards * 2^(e-b-1), plus half a unit of the result."""
    exponents = agreed(shards, SMALL_BLOCK).tolist()
    for at, result in enumerate(total(shards, SMALL_BLOCK)):
        exact = sum((Fraction(float(values[at])) for values in shards), Fraction(0))
        e, b = exponents[at // SMALL_BLOCK], value_bits(len(shards))
        bound = len(shards) * Fraction(2) ** (e - b - 1)
        if not np.isfinite(result):
            assert abs(exact) + bound >= Fraction(float(np.finfo(np.float32).max))
            continue
        half_unit = Fraction(2) ** max(math.frexp(result)[1] - 25, -150)
        assert abs(Fraction(float(result)) - exact) <= bound + half_unit


@given(shard_gradients())
def test_exponents_are_tight_and_their_maximum_is_that_of_all_values(
    shards: list[Float32s],
) -> None:
    stacked = np.max(np.abs(shards), axis=0)
    exponents = block_exponents(stacked.astype(np.float32), SMALL_BLOCK)
    assert (agreed(shards, SMALL_BLOCK) == exponents).all()
    for number, e in enumerate(exponents.tolist()):
        largest = Fraction(float(stacked[number * SMALL_BLOCK :][:SMALL_BLOCK].max()))
        assert largest == 0 if e == ZERO else Fraction(2) ** (e - 1) <= largest < Fraction(2) ** e


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 8, 12, 64, 1000, 65536])
def test_no_partial_sum_can_overflow(shards: int) -> None:
    """The worst case: every shard's value is the largest its block allows, and rounds up."""
    bits = value_bits(shards)
    assert shards * 2**bits <= 2**31 - 1 < shards * 2 ** (bits + 1)
    worst = np.array([np.nextafter(np.float32(1), np.float32(0))], np.float32)
    (integer,) = quantize(worst, block_exponents(worst), shards).tolist()
    assert abs(integer) * shards <= 2**31 - 1


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-38, 1e-44, 1e38])
def test_one_shard_comes_back_to_within_its_block(length: int, scale: float) -> None:
    values = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    values *= np.float32(scale)
    back = total([values])
    largest = np.repeat(2.0 ** block_exponents(values).astype(float), BLOCK)[:length]
    assert (np.abs(back.astype(float) - values) <= largest * 2.0**-30).all()


def test_blocks_do_not_disturb_one_another() -> None:
    values = np.concatenate([np.full(BLOCK, scale, np.float32) for scale in (1e38, 0, 1e-45, 3)])
    assert total([values]).tobytes() == values.tobytes()


def test_wide_and_narrow_arithmetic_give_the_same_bits() -> None:
    """A tiny block elsewhere switches the whole vector to float64; the others must not notice."""
    values = np.random.default_rng(1).standard_normal((3, 4 * BLOCK)).astype(np.float32)
    tiny = np.full((3, BLOCK), 1e-44, np.float32)
    wide = total(list(np.concatenate([values, tiny], axis=1)))
    assert wide[: 4 * BLOCK].tobytes() == total(list(values)).tobytes()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_non_finite_values_are_told_and_never_quantized(bad: float) -> None:
    values = np.ones(3 * BLOCK + 1, np.float32)
    values[-1] = bad
    exponents = np.maximum(block_exponents(values), block_exponents(np.ones_like(values)))
    assert exponents.tolist() == [1, 1, 1, NON_FINITE]
    assert not all_finite(exponents)
    with pytest.raises(ValueError, match="not finite"):
        quantize(values, exponents, 2)
    assert not all_finite(np.array([np.nan]))


def test_a_sum_beyond_float32_is_infinite_not_a_warning() -> None:
    largest = np.full(5, np.finfo(np.float32).max, np.float32)
    assert (total([largest, largest]) == np.inf).all()


def test_quantize_adds_in_place_without_a_new_vector() -> None:
    values = np.arange(1000, dtype=np.float32)
    exponents = block_exponents(values)
    once = quantize(values, exponents, 4)
    sums = once.copy()
    assert quantize(values, exponents, 4, sums, add=True) is sums
    assert (sums == 2 * once).all()


@pytest.mark.parametrize("shards", [0, -1, 65537])
def test_impossible_shard_counts_are_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        value_bits(shards)


def test_wrong_shapes_and_types_are_refused() -> None:
    values = np.ones(10, np.float32)
    with pytest.raises(ValueError, match="blocks"):
        quantize(values, [1, 1], 2)
    with pytest.raises(ValueError, match="float32"):
        block_exponents(values.astype(np.float64))
    with pytest.raises(ValueError, match="float32"):
        block_exponents(values[::2])
    with pytest.raises(ValueError, match="out has"):
        quantize(values, [1], 2, np.zeros(9, np.int32))
    with pytest.raises(ValueError, match="out has"):
        dequantize(np.zeros(10, np.int32), [1], 2, values[:9])
