"""Codecs: the same bits on every member, within each codec's stated error."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from collectives.blockscale import BLOCK, block_count, block_exponents, value_bits
from collectives.codec_names import NAMES, help_text, parse
from collectives.codecs import CODECS, Vector, build
from collectives.codecs.codec import Float32s
from collectives.codecs.small_ints import levels
from tests.fake_group import groups, together

ORDER_FREE = [codec.name for codec in CODECS if codec.order_free]
LENGTHS = [0, 1, 255, 256, 257, 700]
Dealt = list[list[int]]


def reduced(
    text: str, values: Float32s, dealt: Dealt, step: int = 0, seed: int = 1
) -> list[tuple[bool, Float32s]]:
    """What each member gets when member i has shards dealt[i] of values[V, n]."""
    shards, length = values.shape
    members = groups(len(dealt))

    def one(rank: int) -> tuple[bool, Float32s]:
        codec = build(text, Vector(length, shards, seed))
        out = np.full(length, 7, np.float32)
        finite = codec.reduce(members[rank], values[dealt[rank]], dealt[rank], step, out)
        return finite, out

    return together([partial(one, rank) for rank in range(len(dealt))])


@st.composite
def shard_values(draw: st.DrawFn) -> Float32s:
    """values[V, n] with what is hard: blocks that span 2^-40 … 2^40, zeros, denormals, extremes."""
    shards, length = draw(st.integers(1, 12)), draw(st.sampled_from(LENGTHS))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.standard_normal((shards, length))
    kinds = ["plain", "wide", "zeros", "denormal", "tiny", "large", "sparse"]
    for start in range(0, length, BLOCK):
        block = values[:, start : start + BLOCK]
        kind = draw(st.sampled_from(kinds))
        block *= {"zeros": 0.0, "denormal": 1e-42, "tiny": 1e-37, "large": 1e36}.get(kind, 1.0)
        if kind == "wide":
            block *= 2.0 ** random.integers(-40, 41, block.shape)
        if kind == "sparse":
            block *= random.random(block.shape) < 0.01
    return values.astype(np.float32)


@st.composite
def deals(draw: st.DrawFn, shards: int) -> Dealt:
    """Shards dealt to 1 … 9 members, anybody having any of them in any order, or none."""
    owners = draw(st.lists(st.integers(0, 8), min_size=shards, max_size=shards))
    dealt: Dealt = [[] for _ in range(max(owners) + 1)]
    for shard in draw(st.permutations(range(shards))):
        dealt[owners[shard]].append(shard)
    return dealt


def same_everywhere(outcomes: list[tuple[bool, Float32s]]) -> Float32s:
    assert all(finite for finite, _ in outcomes)
    assert len({out.tobytes() for _, out in outcomes}) == 1
    return outcomes[0][1]


@pytest.mark.parametrize("text", ORDER_FREE)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_order_free_means_any_membership_and_order(text: str, data: st.DataObject) -> None:
    values = data.draw(shard_values())
    alone = same_everywhere(reduced(text, values, [list(range(len(values)))]))
    dealt = data.draw(deals(len(values)))
    assert same_everywhere(reduced(text, values, dealt)).tobytes() == alone.tobytes()


@pytest.mark.parametrize("text", [codec.name for codec in CODECS])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_error_is_within_the_stated_bound(text: str, data: st.DataObject) -> None:
    values = data.draw(shard_values())
    out = same_everywhere(reduced(text, values, data.draw(deals(len(values)))))
    error = np.abs(out - values.sum(axis=0, dtype=float))
    assert (error <= stated_bound(text, values)).all()


def stated_bound(text: str, values: Float32s) -> NDArray[np.float64]:
    """As the codecs' docstrings say."""
    shards = len(values)
    magnitudes = np.abs(values.astype(float)).sum(axis=0)
    if text == "float32":
        return shards * 2.0**-24 * magnitudes
    if text == "bf16":
        return 2.0**-7 * magnitudes + shards * 2.0**-133
    each = [block_exponents(row) for row in values]
    rounding = 2.0**-24 * magnitudes + 2.0**-150
    if text == "topk":
        e = float(np.max(each, initial=-149))
        share = min(math.ceil(0.01 * values.shape[1] / shards), values.shape[1])
        smallest_named = np.sort(np.abs(values), axis=1)[:, -share:][:, :1].astype(float)
        return smallest_named.sum(axis=0) + shards * 2.0 ** (e - value_bits(shards) - 1) + rounding
    if text in ("int32", "powersgd"):  # which sends vectors of no shape whole
        e = np.max(each, axis=0).astype(float)
        return spread(shards * 2.0 ** (e - value_bits(shards) - 1), values) + rounding
    steps = levels(int(text.removeprefix("int")), shards)
    scale = np.maximum(largest(values) * (1 + 2.0**-7), 2.0**-90)
    return spread(shards * scale * (1 / steps + 2.0**-21), values) + rounding


def largest(values: Float32s) -> NDArray[np.float64]:
    """Per block, over all shards."""
    starts = np.arange(0, values.shape[1], BLOCK)
    if not len(starts):
        return np.zeros(0)
    magnitudes = np.abs(values).max(axis=0).astype(float)
    found: NDArray[np.float64] = np.maximum.reduceat(magnitudes, starts)
    return found


def spread(per_block: NDArray[np.float64], values: Float32s) -> NDArray[np.float64]:
    assert len(per_block) == block_count(values.shape[1])
    return np.repeat(per_block, BLOCK)[: values.shape[1]]


@pytest.mark.parametrize("text", [codec.name for codec in CODECS])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_is_told_to_all(text: str, bad: float) -> None:
    values = np.ones((3, 300), np.float32)
    values[1, 299] = bad
    assert [finite for finite, _ in reduced(text, values, [[0], [1], [2]])] == [False] * 3
    values[0, 299] = -bad  # which would cancel an infinity
    assert [finite for finite, _ in reduced(text, values, [[2, 0, 1], []])] == [False] * 2


@pytest.mark.parametrize("text", [codec.name for codec in CODECS])
def test_a_sum_beyond_float32_is_told_to_all(text: str) -> None:
    values = np.full((3, 300), 3e38, np.float32)
    assert [finite for finite, _ in reduced(text, values, [[0], [1, 2]])] == [False] * 2
    values[1] = -3e38  # but not one that only passes through there
    if text in ORDER_FREE:
        assert [finite for finite, _ in reduced(text, values, [[0, 2], [1]])] == [True] * 2


@pytest.mark.parametrize("text", ["int16", "int8"])
@pytest.mark.parametrize("shards", [1, 5, 64, 127])
@pytest.mark.parametrize("value", [1.0, 1.99, 3e38, 1e-44])
def test_no_partial_sum_can_overflow(text: str, shards: int, value: float) -> None:
    """The worst case, all the largest value of one sign, comes back whole and within a level."""
    for sign in (1, -1):
        values = np.full((shards, BLOCK), sign * value / shards, np.float32)
        (_, out), *_ = reduced(text, values, [list(range(shards))])
        error = np.abs(out - values.sum(axis=0, dtype=float))
        assert (error <= stated_bound(text, values)).all()


@pytest.mark.parametrize("text", ["int16", "int8"])
def test_rounding_by_chance_is_right_in_the_mean(text: str) -> None:
    """Over seeds and steps; 6 standard deviations of the mean, for all values at once."""
    shards, runs = 5, 400
    values = np.random.default_rng(3).standard_normal((shards, 2 * BLOCK)).astype(np.float32)
    outs = [
        reduced(text, values, [list(range(shards))], step=run // 2, seed=run % 2)[0][1]
        for run in range(runs)
    ]
    steps = levels(int(text.removeprefix("int")), shards)
    scale = spread(largest(values) * (1 + 2.0**-7), values)
    deviation = math.sqrt(shards) / 2 * scale / steps
    bias = shards * scale * (2.0**-17 / steps + 2.0**-21)
    error = np.abs(np.mean(outs, axis=0, dtype=float) - values.sum(axis=0, dtype=float))
    assert (error <= 6 * deviation / math.sqrt(runs) + bias).all()
    assert (np.std(outs, axis=0) <= 1.3 * deviation).all()


def test_chances_differ_between_seeds_steps_and_shards() -> None:
    values = np.random.default_rng(3).standard_normal((1, 4000)).astype(np.float32)
    four = np.repeat(values, 4, axis=0)
    cases = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    outs = {reduced("int8", four, [[s]], step, seed)[0][1].tobytes() for s, step, seed in cases}
    assert len(outs) == len(cases)


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    parse("int32", 65536)
    parse("int8", 127)
    for text, shards, says in [
        ("int33", 12, "no codec 'int33': there is int32, int16, "),
        ("topk:0", 12, "the share of values sent: 0 is none"),
        ("topk:much", 12, "after topk: comes the ratio, a number"),
        ("powersgd:1.5", 12, "a whole number from 1 to 64, not 1.5"),
        ("powersgd:nan", 12, "a whole number from 1 to 64, not nan"),
        ("int32:4", 12, "takes no option"),
        ("int8", 128, "codec int8 sums at most 127 shards, not 128: submit with fewer --shards"),
        ("int16", 4097, "at most 4096 shards"),
    ]:
        with pytest.raises(ValueError, match=says):
            parse(text, shards)


def test_help_names_all() -> None:
    assert all(codec.name in help_text() for codec in CODECS)
    assert set(NAMES) == {codec.name for codec in CODECS}
