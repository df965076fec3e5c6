"""Error feedback: nothing is lost but late, whoever has a shard, and one who was cut off knows."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectives.codecs import Codec, Group, Vector, build
from collectives.codecs.codec import Float32s
from collectives.codecs.powersgd import multiply, orthonormal
from collectives.codecs.topk import largest_positions
from collectives.errors import Aborted
from tests.fake_group import groups, together

SHARDS = 5
SHAPES = ((24, 30), (7,), (16, 3, 5), (2, 2))
LENGTH = sum(int(np.prod(shape)) for shape in SHAPES)
EXACT = 20  # values after the parameters' that a lossy codec must not touch
VECTOR = Vector(LENGTH + EXACT, SHARDS, 1, SHAPES, exact_from=LENGTH)
CODECS = ["topk:0.05", "powersgd:2"]
Dealt = Sequence[Sequence[int]]
DEALS: list[Dealt] = [[range(5)], [[3, 1], [4, 0, 2]], [[0], [], [4], [1, 3], [2]]]


class Members:
    """A codec per member; shards move between them as a generation deals them."""

    def __init__(self, text: str, size: int) -> None:
        self.codecs = [build(text, VECTOR) for _ in range(size)]

    def deal(self, dealt: Dealt) -> None:
        memory: dict[int, Float32s] = {}
        for codec in self.codecs:
            memory |= codec.memory()
        common = self.codecs[0].common()
        for codec, shards in zip(self.codecs, dealt, strict=False):
            codec.adopt({shard: memory[shard].copy() for shard in shards if shard in memory})
            for name, values in codec.common().items():
                values[...] = common[name]
        for codec in self.codecs[len(dealt) :]:
            codec.adopt({})

    def step(self, dealt: Dealt, values: Float32s, step: int, keep: Sequence[int]) -> Float32s:
        made = groups(len(dealt))

        def one(rank: int) -> Float32s:
            out = np.empty(VECTOR.length, np.float32)
            shards = list(dealt[rank])
            assert self.codecs[rank].reduce(made[rank], values[shards], shards, step, out)
            if rank in keep:
                self.codecs[rank].keep(out)
            return out

        outs = together([partial(one, rank) for rank in range(len(dealt))])
        assert len({out.tobytes() for out in outs}) == 1
        return outs[0]

    def remembered(self) -> dict[int, Float32s]:
        found: dict[int, Float32s] = {}
        for codec in self.codecs:
            found |= codec.memory()
        return found


def gradients(seed: int, steps: int) -> Float32s:
    random = np.random.default_rng(seed)
    common = random.standard_normal((steps, 1, VECTOR.length))
    own = random.standard_normal((steps, SHARDS, VECTOR.length))
    return (common + 0.5 * own).astype(np.float32)


@pytest.mark.parametrize("text", CODECS)
@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(DEALS), min_size=1, max_size=5), st.integers(0, 99))
def test_averages_and_memories_add_up_to_the_gradients(
    text: str, deals: list[Dealt], seed: int
) -> None:
    """... for any membership in every step; and all of it has the same bits as one member alone."""
    values = gradients(seed, len(deals))
    moving, alone = Members(text, 5), Members(text, 1)
    sent = np.zeros(VECTOR.length)
    for step, dealt in enumerate(deals):
        moving.deal(dealt)
        out = moving.step(dealt, values[step], step, range(5))
        assert alone.step(DEALS[0], values[step], step, [0]).tobytes() == out.tobytes()
        sent += out
    late = np.zeros(LENGTH)
    for shard, memory in moving.remembered().items():
        assert memory.tobytes() == alone.remembered()[shard].tobytes()
        late += memory
    exact = values.sum(axis=(0, 1), dtype=float)
    np.testing.assert_allclose(sent[:LENGTH] + late, exact[:LENGTH], atol=1e-4)
    np.testing.assert_allclose(sent[LENGTH:], exact[LENGTH:], atol=1e-4)
    assert np.abs(late).max() > 0.1


@pytest.mark.parametrize("text", CODECS)
def test_a_steady_gradient_gets_through_in_time(text: str) -> None:
    """The mean of the averages approaches it as 1/steps: what is remembered stays bounded."""
    values = gradients(3, 1)[0]
    members, steps, sent = Members(text, 1), 60, np.zeros(VECTOR.length)
    for step in range(steps):
        sent += members.step(DEALS[0], values, step, [0])
    exact = values.sum(axis=0, dtype=float)
    assert np.abs(sent / steps - exact).max() < 0.4 * np.abs(exact).max()
    assert np.linalg.norm(sent / steps - exact) < 0.25 * np.linalg.norm(exact)


class CutOff:
    """A group whose generation ends with this operation of one member."""

    def __init__(self, group: Group, after: int) -> None:
        self._group, self._left = group, after
        self.rank, self.size = group.rank, group.size

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            result = getattr(self._group, name)(*arguments)
            self._left -= 1
            if self._left < 0:
                raise Aborted("the generation is over")
            return result

        return call


def operations(codec: Codec) -> int:
    """How many operations a reduce is."""
    counting = CutOff(groups(1)[0], 1_000)
    out = np.empty(VECTOR.length, np.float32)
    codec.reduce(counting, gradients(0, 1)[0], list(range(SHARDS)), 0, out)
    return 1_000 - counting._left


@pytest.mark.parametrize("text", CODECS)
def test_one_cut_off_in_the_last_operation_goes_on_by_the_others_average(text: str) -> None:
    values = gradients(4, 3)
    members, dealt = Members(text, 2), DEALS[1]
    members.step(dealt, values[0], 0, [0, 1])
    made = groups(2)
    sends = 2 if text.startswith("topk") else 0  # to one other, and one answer
    cut = CutOff(made[1], operations(build(text, VECTOR)) + sends - 1)
    outs = [np.empty(VECTOR.length, np.float32) for _ in range(2)]

    def complete() -> None:
        shards = list(dealt[0])
        assert members.codecs[0].reduce(made[0], values[1][shards], shards, 1, outs[0])

    def incomplete() -> None:
        shards = list(dealt[1])
        with pytest.raises(Aborted):
            members.codecs[1].reduce(cut, values[1][shards], shards, 1, outs[1])

    together([complete, incomplete])
    for codec in members.codecs:
        codec.keep(outs[0])
    whole = Members(text, 2)
    whole.step(dealt, values[0], 0, [0, 1])
    whole.step(dealt, values[1], 1, [0, 1])
    for shard, memory in members.remembered().items():
        assert memory.tobytes() == whole.remembered()[shard].tobytes()
    again = members.step(dealt, values[2], 2, [0, 1])
    assert again.tobytes() == whole.step(dealt, values[2], 2, [0, 1]).tobytes()


@pytest.mark.parametrize("text", CODECS)
def test_a_step_that_is_not_applied_leaves_no_trace(text: str) -> None:
    values = gradients(5, 2)
    trying, plain = Members(text, 2), Members(text, 2)
    for members in (trying, plain):
        members.step(DEALS[1], values[0], 0, [0, 1])
    trying.step(DEALS[1], values[1] * 3, 1, [])
    repeated = trying.step(DEALS[1], values[1], 1, [0, 1])
    assert repeated.tobytes() == plain.step(DEALS[1], values[1], 1, [0, 1]).tobytes()


def test_a_matrix_of_low_rank_gets_through_at_once() -> None:
    random = np.random.default_rng(1)
    left, right = random.standard_normal((24, 2)), random.standard_normal((2, 30))
    values = np.zeros((SHARDS, VECTOR.length), np.float32)
    for shard in range(SHARDS):
        values[shard, : 24 * 30] = (left @ random.standard_normal((2, 2)) @ right).reshape(-1)
    out = Members("powersgd:2", 1).step(DEALS[0], values, 0, [0])
    np.testing.assert_allclose(out, values.sum(axis=0), atol=1e-3)


def test_orthonormal_columns_and_products() -> None:
    random = np.random.default_rng(2)
    columns = random.standard_normal((40, 5)).astype(np.float32)
    columns[:, 3] = 2 * columns[:, 1]  # nothing new
    basis = orthonormal(columns)
    assert not basis[:, 3].any()
    others = np.delete(basis, 3, axis=1).astype(float)
    np.testing.assert_allclose(others.T @ others, np.eye(4), atol=1e-6)
    residual = columns - basis.astype(float) @ (basis.T @ columns)
    assert np.abs(residual).max() < 1e-5
    right, out = (
        random.standard_normal((3000, 5)).astype(np.float32),
        np.empty((40, 3000), np.float32),
    )
    multiply(columns, right, out)
    np.testing.assert_allclose(out, columns.astype(float) @ right.T, atol=1e-4)


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45]), max_size=30), st.integers(1, 9)
)
def test_the_largest_are_named_first_ones_first(values: list[float], count: int) -> None:
    order = sorted(range(len(values)), key=lambda at: (-abs(np.float32(values[at])), at))
    expected = sorted(at for at in order[:count] if values[at] != 0)
    assert largest_positions(np.array(values, np.float32), count).tolist() == expected


def test_the_largest_are_found_where_a_sample_misleads() -> None:
    random = np.random.default_rng(5)
    values = random.standard_normal(200_001).astype(np.float32)
    values[::3] *= 100  # the sample sees these alone
    values[[5, 77, 199_999]] = -1e6
    values[1000:3000] = 50.0
    for count in (1, 3, 10, 2_000, 150_000, 200_001):
        found = largest_positions(values, count)
        order = np.lexsort((np.arange(len(values)), -np.abs(values)))
        assert found.tolist() == sorted(order[:count].tolist())
