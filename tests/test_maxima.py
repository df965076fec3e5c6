"""Several small maxima in one exchange: what they would be one by one."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from collectives.codecs import Vector, build
from collectives.codecs.exact import WithExactPart
from collectives.maxima import TOGETHER_BYTES_MAX, maxima
from tests.fake_group import FakeGroup, Hub, together


class Counting(FakeGroup):
    def __init__(self, hub: Hub, rank: int) -> None:
        super().__init__(hub, rank)
        self.used: list[str] = []

    def all_reduce(self, *arguments: Any) -> None:
        self.used.append("reduce")
        super().all_reduce(*arguments)

    def all_gather_arrays(self, *arguments: Any) -> None:
        self.used.append("gather")
        super().all_gather_arrays(*arguments)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    ("lengths", "used"),
    [
        ((13, 7), ["gather"]),
        ((13, 0), ["reduce"]),
        ((0, 7), ["reduce"]),
        ((0, 0), []),
        ((13, TOGETHER_BYTES_MAX), ["reduce", "reduce"]),
    ],
)
def test_as_one_by_one(size: int, lengths: tuple[int, int], used: list[str]) -> None:
    random = np.random.default_rng(size)
    floats = random.standard_normal((size, lengths[0]))
    floats[1:, ::3] = -np.inf  # who has no say
    words = random.integers(-(2**15), 2**15, (size, lengths[1]), np.int16)
    hub = Hub(size)
    members = [Counting(hub, rank) for rank in range(size)]
    outs = [(np.empty(lengths[0]), np.empty(lengths[1], np.int16)) for _ in members]
    together(
        [
            partial(maxima, members[rank], (floats[rank], words[rank]), outs[rank])
            for rank in range(size)
        ]
    )
    if size == 1:  # there is no exchange that they could share
        used = ["reduce" for length in lengths if length]
    for member, (first, second) in zip(members, outs, strict=True):
        assert first.tolist() == floats.max(axis=0).tolist()
        assert second.tolist() == words.max(axis=0).tolist()
        assert member.used == used


@pytest.mark.parametrize("text", ["int32", "int8", "bf16", "topk:0.5"])
def test_a_sum_by_scales_settled_elsewhere_is_that_of_reduce(text: str) -> None:
    """Also of a vector whose last part is summed exactly."""
    rows = np.random.default_rng(1).standard_normal((3, 700), np.float32)
    vector = Vector(700, 3, exact_from=512)
    at_once, apart = np.empty((2, 700), np.float32)
    alone = FakeGroup(Hub(1), 0)
    assert build(text, vector).reduce(alone, rows.copy(), [0, 1, 2], 4, at_once)
    codec = build(text, vector)
    assert isinstance(codec, WithExactPart) == (text != "int32")
    assert codec.sum(alone, rows, [0, 1, 2], 4, codec.scales(rows), apart)
    assert at_once.tobytes() == apart.tobytes()
