"""Training with each codec: who computes a shard, falls behind or joins changes no bit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from p2p.errors import Usage
from p2p.training import checkpoint
from p2p.training.catchup import catch_up
from p2p.training.checkpoint import Damaged
from p2p.training.run import Run
from p2p.training.spec import parse
from tests.fake_group import groups, together
from tests.training_fakes import new_run, steps

SHARDS = 7
ORDER_FREE = ["int32", "int16", "int8", "topk:0.1", "powersgd:1"]


class Small:
    """BatchNorm, dropout, and a short last batch (103 = 5 x 20 + 3, fewer than the shards)."""

    global_batch = 20
    epochs = 3
    lr = 0.05

    def model(self) -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        )

    def dataset(self, split: str) -> TensorDataset:
        random = torch.Generator().manual_seed(1)
        x = torch.randn(103, 6, generator=random)
        return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = (torch.cat([t, t]) for t in batch)  # BatchNorm refuses a single sample
        return functional.cross_entropy(model(x), y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)


def alone(codec: str, count: int) -> str:
    run = new_run(Small, shards=SHARDS, codec=codec)
    steps([run], [(0, SHARDS)], count, {0})
    return run.hash()


def caught_up(runs: list[Run]) -> list[str | None]:
    made = groups(len(runs))
    outcomes = together([lambda r=r, i=i: catch_up(made[i], r) for i, r in enumerate(runs)])
    return [outcome.received for outcome in outcomes]


@pytest.mark.parametrize("codec", ORDER_FREE)
def test_shards_move_one_falls_behind_and_one_joins(codec: str) -> None:
    runs = [new_run(Small, shards=SHARDS, codec=codec) for _ in range(2)]
    steps(runs, [(0, 3), (3, 7)], 4, {1})
    assert caught_up(runs) == ["result", None]
    steps(runs, [(0, 6), (6, 7)], 3, {0, 1})
    runs.insert(1, new_run(Small, shards=SHARDS, codec=codec))
    assert caught_up(runs) == [None, "state", None]
    steps(runs, [(0, 0), (0, 4), (4, 7)], 3, {0, 1, 2})
    assert {run.hash() for run in runs} == {alone(codec, 10)}


@pytest.mark.parametrize("codec", ["float32", "bf16"])
def test_where_the_order_counts_all_still_have_the_same_bits(codec: str) -> None:
    runs = [new_run(Small, shards=SHARDS, codec=codec) for _ in range(3)]
    steps(runs, [(0, 3), (3, 3), (3, 7)], 8, {0, 1, 2})
    assert len({run.hash() for run in runs}) == 1


@pytest.mark.parametrize("codec", ["int16", "int8", "bf16", "topk:0.1", "powersgd:1"])
def test_what_a_lossy_codec_leaves_out_does_not_touch_buffers(codec: str) -> None:
    exact, lossy = (new_run(Small, shards=SHARDS, codec=c) for c in ("int32", codec))
    steps([exact], [(0, SHARDS)], 1, {0})
    steps([lossy], [(0, SHARDS)], 1, {0})
    ours, theirs = exact.model.state_dict(), lossy.model.state_dict()
    assert not all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(ours[name], theirs[name])


def test_the_state_of_a_codec_travels_with_the_model() -> None:
    run = new_run(Small, shards=SHARDS, codec="powersgd:1")
    assert [n for n in run.tensors() if n.startswith("strategy.")] == ["strategy.codec.start"]
    steps([run], [(0, SHARDS)], 2, {0})
    other = new_run(Small, shards=SHARDS, codec="powersgd:1")
    other.restore(run.pack(), run.hash())
    assert other.hash() == run.hash()


def test_a_codec_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(Usage, match="codec int8 sums at most 127 shards, not 128"):
        parse({"id": "j", "task": "t", "task_class": "T", "shards": 128, "codec": "int8"})


@pytest.mark.parametrize("strategy", ["ring", "local-sgd"])
@pytest.mark.parametrize("codec", ["topk:0.1", "powersgd:1"])
def test_any_number_of_trainers_goes_on_from_a_checkpoint_with_the_same_bits(
    codec: str, strategy: str
) -> None:
    """What a codec has left out so far is in it, of all shards, with whomever they are."""
    options = {"local_steps": "2"} if strategy == "local-sgd" else {}
    spec = {"shards": SHARDS, "codec": codec, "strategy": strategy, "options": options}
    runs = [new_run(Small, **spec) for _ in range(2)]
    steps(runs, [(0, 3), (3, 7)], 4, {0, 1})
    own = {name: t.clone() for run in runs for name, t in run.own().items()}
    saved = {**runs[0].snapshot(), **own}
    assert len(runs[0].own()) == 3
    metadata = {**runs[0].metadata(), "state_hash": runs[1].hash()}
    steps(runs, [(0, 3), (3, 7)], 3, {0, 1})

    resumed = [new_run(Small, **spec) for _ in range(3)]
    for run in resumed:
        run.restore(checkpoint.pack(saved, metadata))
    steps(resumed, [(0, 1), (1, 6), (6, 7)], 3, {0, 1, 2})
    assert {run.hash() for run in resumed} == {runs[0].hash()}


def test_what_is_no_memory_of_this_codec_is_refused() -> None:
    run = new_run(Small, shards=SHARDS, codec="topk:0.1")
    steps([run], [(0, SHARDS)], 2, {0})
    good, metadata = run.snapshot(), {**run.metadata(), "state_hash": run.hash()}
    for name, tensor in (
        ("strategy.memory.00007", torch.zeros(run.gradients.layout.values)),
        ("strategy.memory.00001", torch.zeros(5)),
        ("strategy.memory.one", torch.zeros(5)),
    ):
        with pytest.raises(Damaged, match=r"is no memory of codec topk"):
            run.restore(checkpoint.pack({**good, name: tensor}, metadata))
