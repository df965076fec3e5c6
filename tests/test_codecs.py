"""Codecs: the same bits on every member, within each codec's stated error."""

from functools import partial

import numpy as np
import pytest

from collectives.codecs import Codec, Vector, build, check
from collectives.codecs.codec import Float32s
from tests.fake_group import groups, together


def reduced(
    text: str, values: Float32s, cuts: list[list[int]], step: int = 0
) -> list[tuple[bool, Float32s]]:
    """What each member gets when member i has shards cuts[i] of values[V, n]."""
    shards, length = values.shape
    members = groups(len(cuts))

    def one(rank: int) -> tuple[bool, Float32s]:
        codec: Codec = build(text, Vector(length, shards, seed=1))
        out = np.full(length, 7, np.float32)
        finite = codec.reduce(members[rank], values[cuts[rank]].copy(), cuts[rank], step, out)
        return finite, out

    return together([partial(one, rank) for rank in range(len(cuts))])


@pytest.mark.parametrize("text", ["int32"])
def test_same_bits_for_any_assignment(text: str) -> None:
    values = np.random.default_rng(1).standard_normal((7, 700)).astype(np.float32)
    found = set()
    for cuts in ([list(range(7))], [[6, 0, 3], [1, 2, 4, 5]], [[], [5, 6], [4, 3, 2, 1, 0]]):
        for finite, out in reduced(text, values, cuts):
            assert finite
            found.add(out.tobytes())
            assert np.abs(out - values.sum(axis=0, dtype=float)).max() < 1e-5
    assert len(found) == 1


@pytest.mark.parametrize("text", ["int32"])
def test_one_bad_value_is_told_to_all(text: str) -> None:
    values = np.ones((3, 300), np.float32)
    values[1, 299] = np.nan
    assert [finite for finite, _ in reduced(text, values, [[0], [1], [2]])] == [False] * 3


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    check("int32", 65536)
    for text, shards, says in [
        ("int33", 12, "no codec 'int33': there is int32"),
        ("int32:4", 12, "takes no option"),
        ("int32", 65537, "at most 65536 shards, not 65537"),
    ]:
        with pytest.raises(ValueError, match=says):
            check(text, shards)
