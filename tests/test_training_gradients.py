"""A step's arithmetic and catching up, in one process: groups without sockets."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from p2p.errors import P2PError
from p2p.training.blame import TaskFailed
from p2p.training.catchup import CaughtUp, Diverged, catch_up
from p2p.training.run import SKIPPED_IN_A_ROW_MAX, Run
from tests.fake_group import groups, together
from tests.training_fakes import new_run, steps

SAMPLES = 103


class Plain:
    """A linear model, dropout, a short last batch (103 = 5 x 20 + 3, fewer than the shards)."""

    global_batch = 20
    epochs = 3
    lr = 0.05

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def dataset(self, split: str) -> TensorDataset:
        random = torch.Generator().manual_seed(1 if split == "train" else 2)
        x = torch.randn(SAMPLES, 6, generator=random)
        return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr)


class NoDropout(Plain):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Normed(Plain):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))

    def dataset(self, split: str) -> TensorDataset:
        return TensorDataset(*(t[:100] for t in super().dataset(split).tensors))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        # BatchNorm refuses a single sample; the warm-up shard has just one.
        return super().loss(model, [torch.cat([t, t]) for t in batch])


def groupings() -> list[list[tuple[int, int]]]:
    return [
        [(0, 7)],
        [(0, 3), (3, 7)],
        [(0, 1), (1, 5), (5, 7)],
        [(i, i + 1) for i in range(7)],
        [(0, 0), (0, 7)],
    ]


@pytest.mark.parametrize("cls", [Plain, Normed])
def test_same_bits_whoever_computes_which_shard(cls: type) -> None:
    hashes = set()
    for cuts in groupings():
        runs = [new_run(cls, shards=7) for _ in cuts]
        steps(runs, cuts, 8, set(range(len(cuts))))
        hashes |= {run.hash() for run in runs}
        assert runs[0].position.ledger.lines()[0]["missing"] == 0
    assert len(hashes) == 1


def test_a_step_is_what_plain_pytorch_does_also_with_a_short_last_batch() -> None:
    run = new_run(NoDropout, shards=7)
    task = NoDropout()
    plain = task.model()
    plain.load_state_dict(run.model.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    run.state.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.05)
    data = task.dataset("train").tensors
    for step in range(6):
        used = torch.from_numpy(run.samples_of(step))
        optimizer.zero_grad()
        loss = task.loss(plain, [t[used] for t in data])
        loss.backward()
        optimizer.step()
        steps([run], [(0, 7)], 1, {0})
        assert run.position.loss == pytest.approx(loss.item(), rel=1e-5)
    assert len(used) == 3
    for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_batchnorm_buffers_are_averaged_over_samples() -> None:
    run = new_run(Normed, shards=1)
    steps([run], [(0, 1)], 2, {0})
    task = Normed()
    plain = new_run(Normed, shards=1).model
    plain.train()
    used = run.samples_of(0)
    task.loss(plain, [t[used] for t in task.dataset("train").tensors])
    assert int(run.model[1].num_batches_tracked) == 2  # type: ignore[index, arg-type]
    one = new_run(Normed, shards=1)
    steps([one], [(0, 1)], 1, {0})
    torch.testing.assert_close(one.model[1].running_mean, plain[1].running_mean)  # type: ignore[index]


class Branching(Plain):
    """A head that no sample uses: PyTorch leaves its weights alone, weight decay included."""

    def model(self) -> nn.Module:
        model = nn.ModuleDict({"body": nn.Linear(6, 3), "unused": nn.Linear(6, 3)})
        model.forward = lambda x: model["body"](x)  # type: ignore[method-assign]
        return model


def test_a_parameter_that_no_shard_used_stays() -> None:
    run = new_run(Branching, shards=3)
    before = run.model["unused"].weight.clone()  # type: ignore[index, union-attr, operator]
    steps([run], [(0, 3)], 2, {0})
    assert torch.equal(run.model["unused"].weight, before)  # type: ignore[index, union-attr, arg-type]
    assert not any("unused" in name for name in run.state.tensors() if "optimizer" in name)


class Exploding(Plain):
    """NaN in whatever shard has sample 3."""

    global_batch = 20

    def dataset(self, split: str) -> TensorDataset:
        data = super().dataset(split)
        data.tensors[0][3] = float("nan")
        return data


def test_a_step_with_nan_is_skipped_by_all_and_only_that() -> None:
    runs = [new_run(Exploding, shards=7), new_run(Exploding, shards=7)]
    bad = next(s for s in range(6) if 3 in runs[0].samples_of(s))
    for step in range(6):
        before = runs[0].hash()
        steps(runs, [(0, 4), (4, 7)], 1, {0, 1})
        assert (runs[0].hash() == before) == (step == bad)
        assert runs[0].hash() == runs[1].hash()
    assert runs[0].position.ledger.lines()[0]["missing"] == 0


def test_nan_for_ever_fails_the_job() -> None:
    class Nan(Plain):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * float("nan")

    run = new_run(Nan, shards=2, steps=1000)
    with pytest.raises(TaskFailed, match=f"{SKIPPED_IN_A_ROW_MAX} steps in a row"):
        steps([run], [(0, 2)], SKIPPED_IN_A_ROW_MAX, {0})


def caught_up(runs: list[Run]) -> list[CaughtUp]:
    made = groups(len(runs))
    return together([lambda r=r, i=i: catch_up(made[i], r) for i, r in enumerate(runs)])


@pytest.mark.parametrize("late", list(itertools.product((0, 1), repeat=3))[1:7])
def test_behind_by_one_takes_the_retained_result(late: tuple[int, ...]) -> None:
    runs = [new_run(Plain, shards=7) for _ in range(3)]
    applied = {rank for rank in range(3) if not late[rank]}
    steps(runs, [(0, 2), (2, 5), (5, 7)], 4, applied)
    assert {run.position.step for run in runs} == {3, 4}
    outcomes = caught_up(runs)
    assert [o.received for o in outcomes] == ["result" if x else None for x in late]
    assert {run.position.step for run in runs} == {4}
    assert len({run.hash() for run in runs}) == 1
    assert len({str(run.position.ledger.lines()) for run in runs}) == 1


def test_a_joiner_takes_the_whole_state_and_goes_on_equally() -> None:
    runs = [new_run(Normed, shards=7), new_run(Normed, shards=7)]
    steps(runs, [(0, 3), (3, 7)], 7, {0, 1})
    joined = [new_run(Normed, shards=7), *runs]
    assert [o.received for o in caught_up(joined)] == ["state", None, None]
    steps(joined, [(0, 2), (2, 3), (3, 7)], 3, {0, 1, 2})
    alone = new_run(Normed, shards=7)
    steps([alone], [(0, 7)], 10, {0})
    assert {run.hash() for run in joined} == {alone.hash()}
    assert joined[0].position.ledger.lines() == alone.position.ledger.lines()


def test_a_joiner_and_one_behind_by_one_at_once() -> None:
    runs = [new_run(Plain, shards=7) for _ in range(3)]
    steps(runs, [(0, 2), (2, 5), (5, 7)], 4, {1, 2})
    joined = [runs[0], new_run(Plain, shards=7), runs[1], runs[2]]
    assert [o.received for o in caught_up(joined)] == ["result", "state", None, None]
    assert len({run.hash() for run in joined}) == 1


def test_the_one_whose_state_differs_finds_out() -> None:
    runs = [new_run(Plain, shards=7) for _ in range(3)]
    steps(runs, [(0, 2), (2, 5), (5, 7)], 3, {0, 1, 2})
    with torch.no_grad():
        next(runs[0].model.parameters()).view(-1)[0] += 1e-6
    made = groups(4)
    joined = [*runs, new_run(Plain, shards=7)]

    def one(rank: int) -> str:
        try:
            return str(catch_up(made[rank], joined[rank]).received)
        except Diverged:
            return "diverged"

    outcomes = together([lambda rank=rank: one(rank) for rank in range(4)])
    assert outcomes == ["diverged", "None", "None", "state"]
    assert joined[3].hash() == joined[1].hash()


def test_other_data_is_refused() -> None:
    class Fewer(Plain):
        def dataset(self, split: str) -> TensorDataset:
            return TensorDataset(*(t[:90] for t in super().dataset(split).tensors))

    both = [new_run(Plain, shards=7), new_run(Fewer, shards=7)]
    with pytest.raises(TaskFailed, match="one has 103 train samples, another 90 train samples: ev"):
        caught_up(both)
    steps([both[0]], [(0, 7)], 1, {0})
    with pytest.raises(P2PError, match="this peer has 90 train samples, the others 103 train"):
        caught_up(both)


class Moving(Plain):
    """Changes a buffer that no state_dict has."""

    def model(self) -> nn.Module:
        class Counting(nn.Linear):
            def __init__(self) -> None:
                super().__init__(6, 3)
                self.register_buffer("seen", torch.zeros(1), persistent=False)

            def forward(self, x: Tensor) -> Tensor:
                self.seen += 1
                return super().forward(x)

        return Counting()


def test_a_buffer_that_could_not_travel_is_refused() -> None:
    with pytest.raises(TaskFailed, match="buffer seen, which is not in the state_dict"):
        new_run(Moving, shards=7)


def test_evaluation_is_the_same_for_any_number_of_trainers() -> None:
    class Judged(Plain):
        def evaluate(self, model: nn.Module, batch: Any) -> dict[str, Any]:
            right = model(batch[0]).argmax(dim=1) == batch[1]
            return {"accuracy": right, "loss": torch.rand(len(right))}

    results = set()
    for cuts in groupings()[:4]:
        runs = [new_run(Judged, shards=7) for _ in cuts]
        made = groups(len(cuts))
        # torch's generator belongs to the process, so only the accuracy can be compared here.
        means = together(
            [
                lambda i=i: runs[i].evaluation.run(made[i], 0, cuts[i], lambda: None)  # noqa: B023
                for i in range(len(cuts))
            ]
        )
        assert means[0].keys() == {"accuracy", "loss"}
        results |= {mean["accuracy"] for mean in means}
    assert len(results) == 1
    model = new_run(Judged, shards=7).model.eval()
    with torch.no_grad():
        x, y = Plain().dataset("test").tensors
        assert results.pop() == pytest.approx(
            float(np.mean((model(x).argmax(1) == y).numpy())), abs=1e-12
        )


def test_rows_are_the_same_whatever_shards_there_were_before() -> None:
    """Room is kept when shards go and come back; what lies beside the gradients stays zero."""
    run = new_run(Normed)
    gradients = run.gradients
    seen = {}
    for mine in [(0, 7), (0, 4), (4, 7), (0, 1), (0, 7), (0, 0), (2, 6)]:
        gradients.compute(0, run.samples_of(0), mine, lambda: None)
        assert np.all(gradients.rows[:, gradients.layout.changes.stop :] == 0.0)
        for shard, row in zip(gradients.numbers, gradients.rows, strict=True):
            assert np.array_equal(seen.setdefault(shard, row.copy()), row)
    assert sorted(seen) == list(range(7))
