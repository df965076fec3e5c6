"""A task that breaks the promise of the same bits is found out, and the parameter named."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from p2p.training import parity
from p2p.training.blame import Lacking, TaskFailed, sentence
from p2p.training.run import Run
from tests.fake_group import groups, together
from tests.test_training_gradients import NoDropout, Plain, caught_up
from tests.training_fakes import new_run, steps


def unseeded() -> float:
    return random.SystemRandom().random()


class NoisyLoss(NoDropout):
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return super().loss(model, batch) + unseeded() * model[2].bias.sum()  # type: ignore[index, union-attr, operator]


class NoisyStart(NoDropout):
    def model(self) -> nn.Module:
        model = super().model()
        with torch.no_grad():
            model[2].weight.mul_(unseeded())  # type: ignore[index, operator]
        return model


class Growing(NoDropout):
    """The same calls give something else every time: state of its own."""

    calls = 0

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        self.calls += 1
        return super().loss(model, batch) * self.calls


class NoisyOptimizer(NoDropout):
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        class Noisy(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                super().step()
                with torch.no_grad():
                    model[2].bias.add_(unseeded())  # type: ignore[index, operator]

        return Noisy(model.parameters(), lr=0.1)


def differing(runs: list[Run]) -> list[str | None]:
    made = groups(len(runs))
    return together([lambda r=r, i=i: parity.level_or_name(made[i], r) for i, r in enumerate(runs)])


@pytest.mark.parametrize(
    ("cls", "named"), [(NoisyLoss, "another gradient of 2.bias"), (Growing, "gradient of 0.weight")]
)
def test_what_differs_when_it_is_computed_again_is_named(cls: type, named: str) -> None:
    with pytest.raises(TaskFailed, match=f"not deterministic: .*{named} .*--allow-nondeterminism"):
        new_run(cls, shards=3)
    run = new_run(cls, shards=3, allow_nondeterminism=True)
    steps([run], [(0, 3)], 2, {0})


def test_other_first_weights_are_named() -> None:
    with pytest.raises(TaskFailed, match=r"2\.weight begins with other values on another trainer"):
        caught_up([new_run(NoisyStart, shards=3) for _ in range(3)])
    allowed = [new_run(NoisyStart, shards=3, allow_nondeterminism=True) for _ in range(3)]
    first = allowed[0].hash()
    caught_up(allowed)
    assert {run.hash() for run in allowed} == {first}


def test_an_update_that_differs_is_named_or_levelled() -> None:
    cuts = [(0, 1), (1, 2), (2, 3)]
    runs = [new_run(NoisyOptimizer, shards=3) for _ in cuts]
    assert differing(runs) == [None] * 3
    steps(runs, cuts, 2, {0, 1, 2})
    assert differing(runs) == ["2.bias"] * 3
    allowed = [new_run(NoisyOptimizer, shards=3, allow_nondeterminism=True) for _ in cuts]
    for _ in range(3):
        steps(allowed, cuts, 2, {0, 1, 2})
        first = allowed[0].hash()
        assert len({run.hash() for run in allowed}) == 3
        assert differing(allowed) == [None] * 3
        assert {run.hash() for run in allowed} == {first}
    joiner = new_run(NoisyOptimizer, shards=3, allow_nondeterminism=True)
    steps(allowed, cuts, 1, {0, 1, 2})
    caught_up([joiner, *allowed])
    assert len({run.hash() for run in [joiner, *allowed]}) == 1


def test_who_computes_other_bits_from_the_same_samples_is_told_of() -> None:
    class Other(Plain):
        def dataset(self, split: str) -> TensorDataset:
            x, y = super().dataset(split).tensors
            return TensorDataset(x + 1, y)

    runs = [new_run(cls, shards=3) for cls in (Plain, Other, Plain)]
    caught_up(runs)
    for run in runs:
        (notice,) = run.notices()
        assert notice.rank == 1
        assert "it computes other bits from the same samples than most" in notice.text
    caught_up([runs[0], runs[2]])
    assert runs[0].notices() == []


def no_memory() -> None:
    torch.empty(1 << 60)


def no_memory_in_python() -> None:
    raise MemoryError


@pytest.mark.parametrize("fail", [no_memory, no_memory_in_python])
def test_too_little_memory_is_the_machine_s_fault(fail: Callable[[], None]) -> None:
    class Large(Plain):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            fail()
            return super().loss(model, batch)

    with pytest.raises(Lacking, match=r"out of memory \(.*:\d+\): a smaller --global-batch"):
        new_run(Large, shards=3)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        fail()
    assert sentence(caught.value).startswith("out of memory: a smaller")  # also in our own code


def test_a_file_that_is_gone_is_the_machine_s_fault(tmp_path: Path) -> None:
    """In the midst of training, too: others may still have it (p2p.control.failures)."""
    (tmp_path / "samples").write_text("1.0")

    class Lazy(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            (tmp_path / "samples").read_text()
            return super().__getitem__(index)

    class Reading(Plain):
        def dataset(self, split: str) -> TensorDataset:
            return Lazy(*super().dataset(split).tensors)

    run = new_run(Reading, shards=3)
    steps([run], [(0, 3)], 1, {0})
    (tmp_path / "samples").unlink()
    with pytest.raises(Lacking, match=r"^FileNotFoundError: .*samples' \(.*:\d+\)$"):
        steps([run], [(0, 3)], 1, {0})
