"""What a replica computes: the same bits for a row in any batch, and the model's own numbers."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from p2p.serving.batching import Row
from p2p.serving.kernels import native
from p2p.serving.models.engine import Engine, Unfit
from p2p.serving.models.rows import CacheShape, NativeRows, Places, Rows, linear_of
from p2p.serving.models.tiled import TiledRows
from p2p.tasks.textgpt import Gpt
from p2p.tasks.textgpt_rows import TextGptRows

CPU = torch.device("cpu")
LIBRARY = native.load()
WAYS: list[Rows] = [TiledRows(CPU), *([NativeRows(LIBRARY)] if LIBRARY else [])]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gpt(width: int = 24, heads: int = 2, context: int = 40) -> Gpt:
    torch.manual_seed(1)
    return Gpt(width, 2, heads, context, 0.0).eval()


def served(model: Gpt, rows: Rows, slots: int = 3) -> Engine:
    return Engine(TextGptRows(model, linear_of(rows)), rows, slots, CPU)


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().view(torch.int32).flatten().tolist()


@pytest.mark.parametrize("rows", WAYS, ids=lambda rows: rows.name)
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(1, 1), (24, 72), (128, 384), (300, 65), (77, 200)]
)
def test_a_linear_layer_gives_a_row_the_same_bits_in_any_batch(
    rows: Rows, inputs: int, outputs: int
) -> None:
    torch.manual_seed(inputs)
    module = nn.Linear(inputs, outputs)
    compute = linear_of(rows)(module)
    x = torch.randn(40, inputs)
    with torch.inference_mode():
        whole = compute(x)
        assert whole == pytest.approx(module(x).numpy(), abs=1e-5)
        for count in range(1, 20):
            assert bits(compute(x[count : 2 * count])) == bits(whole[count : 2 * count])


@pytest.mark.parametrize("rows", WAYS, ids=lambda rows: rows.name)
@pytest.mark.parametrize("head_width", [5, 33])
def test_attention_is_what_it_is_in_pytorch(rows: Rows, head_width: int) -> None:
    torch.manual_seed(head_width)
    heads, context = 2, 37
    cache = rows.cache(CacheShape(1, heads, head_width, context), 2)
    wide = torch.randn(context, 3 * heads * head_width)
    query, key, value = wide.chunk(3, dim=1)
    at = Places(torch.ones(context, dtype=torch.int64), torch.arange(context))
    mixed = cache.attend(0, at, query, key, value)
    parts = (
        t.double().view(1, context, heads, head_width).transpose(1, 2) for t in (query, key, value)
    )
    right = functional.scaled_dot_product_attention(*parts, is_causal=True)
    assert mixed == pytest.approx(right.transpose(1, 2).reshape(context, -1).numpy(), abs=1e-5)


@pytest.mark.parametrize("rows", WAYS[1:], ids=lambda rows: rows.name)
def test_what_the_loops_would_read_beyond_its_end_is_refused(rows: Rows) -> None:
    cache = rows.cache(CacheShape(1, 2, 8, 16), 1)
    at = Places(torch.zeros(3, dtype=torch.int64), torch.arange(3))
    right = torch.zeros(3, 16)
    cache.attend(0, at, right, right, right)
    for wrong in (right[:2], right[:, :8], right.double(), right.bfloat16(), right[0]):
        for three in ((wrong, right, right), (right, wrong, right), (right, right, wrong)):
            with pytest.raises(ValueError, match=r"attention of float32 \(3, 16\)"):
                cache.attend(0, at, *three)


@pytest.mark.parametrize("rows", WAYS, ids=lambda rows: rows.name)
@pytest.mark.parametrize(("width", "heads"), [(24, 2), (20, 4)])
def test_textgpt_row_by_row_is_the_model(rows: Rows, width: int, heads: int) -> None:
    model = gpt(width, heads)
    engine = served(model, rows)
    engine.check()
    tokens = list(np.random.default_rng(0).integers(0, 256, 40))
    with torch.inference_mode():
        right = model(torch.tensor([tokens]))[0].numpy()
    given = engine.step([Row(1, place, int(t), True) for place, t in enumerate(tokens)])
    assert given == pytest.approx(right, abs=1e-5)


@settings(max_examples=15)
@given(st.sampled_from(WAYS), st.integers(0, 1 << 32))
def test_scores_are_the_same_bits_however_steps_are_cut(rows: Rows, seed: int) -> None:
    """Two streams: token by token alone, or in pieces of any length beside each other."""
    random = np.random.default_rng(seed)
    streams = random.integers(0, 256, (2, 12)).tolist()
    each = [
        Row(slot, place, token, True)
        for slot, stream in enumerate(streams)
        for place, token in enumerate(stream)
    ]
    engine = served(MODEL, rows, 2)
    alone = {row: engine.step([row]).tobytes() for row in each}
    engine, left = served(MODEL, rows, 2), [each[:12], each[12:]]
    while any(left):
        pieces = [part[: random.integers(0, 7)] for part in left]
        left = [part[len(piece) :] for part, piece in zip(left, pieces, strict=True)]
        step = [*pieces[0], *pieces[1]]
        for row, scores in zip(step, engine.step(step) if step else (), strict=True):
            assert scores.tobytes() == alone[row]


MODEL = gpt()


def test_a_model_whose_rows_see_each_other_is_refused() -> None:
    class Mean(TextGptRows):
        def scores(self, *given: object) -> Tensor:
            scores = super().scores(*given)  # type: ignore[arg-type]
            return scores - scores.mean()

    with pytest.raises(Unfit, match="each row by itself"):
        Engine(Mean(MODEL, linear_of(WAYS[0])), WAYS[0], 3, CPU).check()
