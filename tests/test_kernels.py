"""The loops over all values: C and numpy give the bits that plain Python says."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectives import kernels
from collectives.codecs.small_ints import key
from collectives.kernels import portable

BOTH = [portable, *([kernels.NATIVE] if kernels.NATIVE else [])]
BLOCKS = [1, 4, 256]
LENGTHS = [0, 1, 127, 128, 129, 255, 256, 257, 1000, 70_000]


def some_values(seed: int, length: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(seed)
    values = random.standard_normal(length) * 2.0 ** random.integers(-30, 6, length)
    values[random.random(length) < 0.05] = 0.0
    return values.astype(np.float32)


def bits(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


@pytest.mark.parametrize("loops", BOTH)
@pytest.mark.parametrize("special", [0.0, -0.0, 1e-45, np.inf, -np.inf, np.nan])
def test_the_largest_magnitude_of_each_block(loops: Any, special: float) -> None:
    for block in BLOCKS:
        rows = some_values(1, 3000).reshape(3, 1000)[:, :700]
        rows[[0, 2], [3, 699]] = special
        found = np.full(-(-700 // block), 5, np.int32)
        loops.largest_bits(rows, block, found)
        for at, got in enumerate(found.tolist()):
            piece = rows[:, at * block : (at + 1) * block].reshape(-1).tolist()
            assert got == max(5, *(bits(value) & 0x7FFFFFFF for value in piece))


@pytest.mark.parametrize("loops", BOTH)
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BLOCKS), st.sampled_from(LENGTHS[:9]), st.integers(0, 999), st.booleans())
def test_rounding_by_chance_is_as_defined(
    loops: Any, block: int, length: int, seed: int, add: bool
) -> None:
    values, words = some_values(seed, length), (seed * 77_777_777 % 2**32, 2**32 - 1 - seed)
    factors = np.full(-(-length // block), 3 * 65536 / 64, np.float32)
    out = np.full(length, 2, np.int8)
    loops.round_stochastic(values, factors, block, words, out, add)
    half = (block + 1) // 2
    for at, value in enumerate(values.tolist()):
        number, place = divmod(at, block)
        chance = hashed(number * half + place % half, words)
        chance = chance & 0xFFFF if place < half else chance >> 16
        fixed = round(float(np.float32(value) * factors[number]))  # ties to even, as rint
        assert out[at] == ((fixed + chance) >> 16) + (2 if add else 0)


def hashed(counter: int, words: tuple[int, int]) -> int:
    value = (counter * 0x9E3779B9 + words[0]) % 2**32
    value = ((value ^ value >> 16) * 0x21F0AAAD + words[1]) % 2**32
    value = (value ^ value >> 15) * 0x735A2D97 % 2**32
    return value ^ value >> 15


def test_chances_are_uniform_and_independent_of_neighbours_and_keys() -> None:
    """65,536 chances in 256 bins and pairs: chi-squares within 6 standard deviations."""
    counters = np.arange(1 << 16, dtype=np.uint32)
    for seed, step, shard in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2**40, 10**6, 11)]:
        hashes = portable.mixed(counters, key(0, 0, 0))
        others = portable.mixed(counters, key(seed, step, shard))
        for low in (hashes & 0xFF, hashes >> 8 & 0xFF, hashes >> 16 & 0xFF, hashes >> 24):
            assert chi_square(low, 256) < 255 + 6 * np.sqrt(2 * 255)
        nibble, other_nibble = hashes >> 12 & 0xF, others >> 12 & 0xF
        for second in (np.roll(nibble, 1), hashes >> 28, other_nibble):
            assert chi_square(nibble * 16 + second, 256) < 255 + 6 * np.sqrt(2 * 255)


def chi_square(values: np.ndarray[Any, Any], bins: int) -> float:
    expected = len(values) / bins
    return float(((np.bincount(values, minlength=bins) - expected) ** 2).sum() / expected)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("block", BLOCKS)
def test_both_give_the_same_bits(length: int, block: int) -> None:
    values, blocks = some_values(length, length), -(-length // block)
    factors = np.ldexp(np.float32(1), np.random.default_rng(1).integers(-5, 22, blocks))
    found = []
    for loops in BOTH:
        results: list[np.ndarray[Any, Any]] = []
        for add in (False, True):
            nearest = np.full(length, -9, np.int32)
            loops.round_nearest(values[np.newaxis], factors, block, nearest, add)
            small = [np.full(length, 3, kind) for kind in (np.int16, np.int8)]
            for out in small:
                lower = np.minimum(factors, np.float32(2**16))
                loops.round_stochastic(values, lower, block, (1, 2), out, add)
            wide = np.ones(length, np.float32)
            results += [nearest, *small, wide]
            halves = np.empty(length, np.uint16)
            loops.to_bfloat16(values, halves)
            loops.from_bfloat16(halves, wide, add)
        for integers in results[:3]:
            back = np.empty(length, np.float32)
            loops.scaled(integers, 1 / factors, block, back)
            results.append(back)
        found.append(b"".join(result.tobytes() for result in results))
    assert len(set(found)) == 1


@pytest.mark.parametrize("loops", BOTH)
@pytest.mark.parametrize("add", [False, True])
def test_rows_are_rounded_and_added_up_also_in_the_place_of_the_first(
    loops: Any, add: bool
) -> None:
    rows = some_values(3, 3000).reshape(3, 1000)[:, :700]
    factors = np.ldexp(np.float32(1), np.arange(-(-700 // 64)))
    rounded = np.rint(rows * np.repeat(factors, 64)[:700]).astype(np.int32)
    for count in (1, 2, 3):
        out = rows[0].view(np.int32) if not add else np.full(700, 7, np.int32)
        before = rows[0].copy()
        loops.round_nearest(rows[:count], factors, 64, out, add)
        assert out.tolist() == (rounded[:count].sum(axis=0) + (7 if add else 0)).tolist()
        rows[0] = before


@pytest.mark.parametrize("loops", BOTH)
def test_bfloat16_is_the_nearest_ties_to_even(loops: Any) -> None:
    cases = {
        1.0: 0x3F80,
        -0.0: 0x8000,
        1 + 2.0**-8: 0x3F80,  # a tie, to even
        1 + 3 * 2.0**-8: 0x3F82,
        1 + 2.0**-8 + 2.0**-20: 0x3F81,
        1e-45: 0,
        float(np.finfo(np.float32).max): 0x7F80,
        np.inf: 0x7F80,
        -np.inf: 0xFF80,
    }
    out = np.empty(len(cases), np.uint16)
    loops.to_bfloat16(np.array(list(cases), np.float32), out)
    assert out.tolist() == list(cases.values())
    nans = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    out = np.empty(3, np.uint16)
    loops.to_bfloat16(nans, out)
    assert out.tolist() == [0x7FC0] * 3


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(kernels.ADDED),
    st.integers(1, 5),
    st.sampled_from([0, 1, 15, 16, 17, 100, 5000]),
    st.integers(0, 20),
    st.booleans(),
    st.integers(0, 999),
)
def test_adding_up_is_adding_one_after_the_other(
    number: str, count: int, length: int, shift: int, past_cache: bool, seed: int
) -> None:
    """With any alignment, in place of any part, and nothing around it is written."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2**63, (count, length + 50)).astype(number)
    if number.startswith("float"):
        bits = (random.standard_normal(bits.shape) * 10.0 ** random.integers(-9, 9)).astype(number)
    divisor = count if number.startswith("float") and seed % 2 else 1
    wanted = bits[0].copy()
    for part in bits[1:]:
        wanted += part
    wanted = wanted / np.array(divisor, number) if divisor != 1 else wanted
    for loops in BOTH:
        parts, whole, copies = bits.copy(), np.zeros(length + 50, number), np.zeros_like(wanted)
        place = parts[seed % count] if seed % 3 else whole
        before, span = place.copy(), slice(shift, shift + length)
        copy = copies[7 : 7 + length] if seed % 5 else None
        loops.add_up([part[span] for part in parts], divisor, place[span], copy, past_cache)
        assert (place[span] == wanted[span]).all()
        assert (place[: span.start] == before[: span.start]).all()
        assert (place[span.stop :] == before[span.stop :]).all()
        assert copy is None or (copy == wanted[span]).all()
        assert not copies[:7].any()
        assert not copies[7 + length :].any()


@pytest.mark.parametrize("loops", BOTH)
def test_a_copy_past_the_cache_is_a_copy_of_that_and_nothing_else(loops: Any) -> None:
    values = np.random.default_rng(1).integers(0, 255, 1000).astype(np.uint8)
    for length in (0, 1, 15, 16, 63, 64, 65, 200, 900):
        for shift in (0, 1, 15, 16, 40):
            out = np.zeros(1000, np.uint8)
            loops.copy_past_cache(values[3 : 3 + length], out[shift : shift + length])
            assert (out[shift : shift + length] == values[3 : 3 + length]).all()
            assert not out[:shift].any()
            assert not out[shift + length :].any()
