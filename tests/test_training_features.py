"""What a task may ask for: schedules, clipping, accumulation, bf16, metrics of the loss.

Each is checked against plain PyTorch, and for the same bits on any number of trainers.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

from p2p.training import checkpoint
from p2p.training.blame import TaskFailed
from p2p.training.rates import NAME
from p2p.training.run import Run
from p2p.training.state import state_hash
from tests.test_training_gradients import NoDropout, Normed, Plain, caught_up
from tests.training_fakes import new_run, steps

SHARDS = 7
SCHEDULES: dict[str, Callable[..., Any]] = {
    "function": lambda self, optimizer: lambda step: 1.0 / (1 + step),
    "cosine": lambda self, optimizer: lr_scheduler.CosineAnnealingLR(
        optimizer, self.options.steps_total
    ),
    "one-cycle": lambda self, optimizer: lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=self.options.steps_total
    ),
    "milestones": lambda self, optimizer: lr_scheduler.MultiStepLR(optimizer, [2, 8]),
    "warm-up, then decay": lambda self, optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 3), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        [3],
    ),
}


class Rich(Normed):
    """Everything at once."""

    accumulate, clip_norm, precision = 2, 0.5, "bf16"

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 3)
        )

    def loss(self, model: nn.Module, batch: Any) -> Any:
        x, y = (torch.cat([t, t]) for t in batch)  # BatchNorm refuses a single sample
        scores = model(x)
        return functional.cross_entropy(scores, y), {
            "accuracy": (scores.argmax(1) == y).float().mean(),
            "magnitude": scores.abs().mean(),
        }

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        return SCHEDULES["warm-up, then decay"](self, optimizer)


def cuts(trainers: int) -> list[tuple[int, int]]:
    return [(SHARDS * i // trainers, SHARDS * (i + 1) // trainers) for i in range(trainers)]


def trained(cls: type, count: int, trainers: int = 1, **spec: Any) -> list[Run]:
    runs = [new_run(cls, shards=SHARDS, **spec) for _ in range(trainers)]
    for _ in range(count):
        steps(runs, cuts(trainers), 1, set(range(trainers)))
    return runs


@pytest.mark.parametrize("strategy", ["ring", "local-sgd"])
def test_all_of_it_has_the_same_bits_for_any_number_of_trainers(strategy: str) -> None:
    options = {"local_steps": "3"}
    seen = set()
    for trainers in (1, 2, 5):
        runs = trained(Rich, 2, trainers, strategy=strategy, options=options)
        seen |= {(run.hash(), str(run.position.train_metrics)) for run in runs}
        assert runs[0].position.train_metrics.keys() == {"accuracy", "magnitude"}
    assert len(seen) == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_moves_as_in_plain_pytorch_and_travels(name: str) -> None:
    cls = type("Scheduled", (NoDropout,), {"schedule": SCHEDULES[name]})
    run = new_run(cls, shards=SHARDS)
    task = cls()
    task.options = run.task.options
    model = task.model()
    optimizer = task.optimizer(model)
    scheduler = task.schedule(optimizer)
    if not isinstance(scheduler, lr_scheduler.LRScheduler):
        scheduler = lr_scheduler.LambdaLR(optimizer, scheduler)
    for _ in range(7):
        assert rate(run) == optimizer.param_groups[0]["lr"]
        steps([run], [(0, SHARDS)], 1, {0})
        optimizer.step()
        scheduler.step()
    before = rate(run)
    joiner = new_run(cls, shards=SHARDS)
    assert [told.received for told in caught_up([run, joiner])] == [None, "state"]
    assert rate(joiner) == before
    steps([run, joiner], cuts(2), 3, {0, 1})
    assert run.hash() == joiner.hash()
    assert rate(joiner) == rate(run) != before
    assert run.hash() == trained(cls, 10)[0].hash()


def rate(run: Run) -> float:
    return float(run.state.optimizer.param_groups[0]["lr"])


def test_the_schedule_is_part_of_hash_and_checkpoint() -> None:
    run = trained(Rich, 2)[0]
    tensors, _ = checkpoint.unpack(run.pack())
    assert NAME in tensors
    assert state_hash(tensors) == run.hash()
    run.state.rates.advance(1)
    assert state_hash(run.tensors()) != state_hash(tensors)


def test_a_step_that_is_skipped_moves_no_schedule() -> None:
    class Nan(Plain):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * float("nan")

        schedule = SCHEDULES["milestones"]

    run = new_run(Nan, shards=SHARDS)
    before = run.hash()
    steps([run], [(0, SHARDS)], 2, {0})
    assert run.hash() == before


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({"clip_norm": 0.01}, 0.01),
        ({"clip_norm": 1000.0}, None),
        ({"accumulate": 3}, None),
        ({"accumulate": 1000}, None),
    ],
)
def test_clipping_and_accumulation_are_what_plain_pytorch_does(
    own: dict[str, float], wanted: float | None
) -> None:
    cls = type("Own", (NoDropout,), own)
    cls.optimizer = lambda self, model: torch.optim.SGD(model.parameters(), lr=0.5)  # type: ignore[attr-defined]
    run = new_run(cls, shards=3)
    task = cls()
    plain = task.model()
    plain.load_state_dict(run.model.state_dict())
    optimizer = task.optimizer(plain)
    data = task.dataset("train").tensors
    for step in range(4):
        used = torch.from_numpy(run.samples_of(step))
        optimizer.zero_grad()
        task.loss(plain, [t[used] for t in data]).backward()
        if wanted is not None:
            norm = nn.utils.clip_grad_norm_(plain.parameters(), wanted)
            assert norm > wanted
        optimizer.step()
        steps([run], [(0, 3)], 1, {0})
    for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_bf16_keeps_weights_and_moments_in_float32() -> None:
    seen = []

    class Casting(NoDropout):
        precision = "bf16"

        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            scores = model(batch[0])
            seen.append(scores.dtype)
            return (scores.logsumexp(1) - scores[torch.arange(len(scores)), batch[1]]).mean()

    run = trained(Casting, 3)[0]
    assert set(seen) == {torch.bfloat16}
    assert {t.dtype for t in run.tensors().values()} == {torch.float32}
    assert run.hash() == trained(Casting, 3, 4)[0].hash()


def test_metrics_of_the_loss_are_means_over_the_batch() -> None:
    class Counting(NoDropout):
        def loss(self, model: nn.Module, batch: Any) -> Any:
            x, _ = batch
            odd = float("nan") if len(x) == 1 else 1.0
            return super().loss(model, batch), {"mean": x[:, 0].mean(), "odd": odd}

    run = new_run(Counting, shards=3)
    for step in range(6):
        used = run.samples_of(step)
        steps([run], [(0, 3)], 1, {0})
        mean = float(run.train.tensors[0][used, 0].mean())
        assert run.position.train_metrics["mean"] == pytest.approx(mean, abs=1e-6)
    assert len(used) == 3
    assert run.position.train_metrics.keys() == {"mean"}  # of the last batch's shards one by one


def changing(self: Any, model: nn.Module, batch: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return Plain.loss(self, model, batch), {f"metric-{min(self.calls, 2)}": 1.0}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"schedule": lambda self, optimizer: 0.5}, r"schedule\(\) gave a float, not a scheduler"),
        ({"schedule": lambda self, optimizer: None}, r"schedule\(\) gave None, not a scheduler"),
        (
            {"schedule": lambda self, optimizer: lr_scheduler.ReduceLROnPlateau(optimizer)},
            "ReduceLROnPlateau, which does not go by the steps",
        ),
        ({"accumulate": 0}, "accumulate is 0: it must be a whole number from 1 up"),
        ({"accumulate": 1.5}, "accumulate is 1.5: it must be a whole number"),
        ({"clip_norm": -1}, "clip_norm is -1: it must be a number above 0"),
        ({"precision": "fp8"}, "precision is 'fp8': there is float32 and bf16"),
        ({"loss": lambda *_: (torch.zeros(()), 3)}, "a loss and a int, not a dict of metrics"),
        ({"loss": changing}, "measured metric-2, at first metric-1: return the same metrics"),
    ],
)
def test_what_cannot_be_is_named(own: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskFailed, match=message):
        trained(type("Wrong", (Plain,), own), 1)


def test_clipping_cannot_be_with_parameter_servers() -> None:
    cls = type("Clipped", (Plain,), {"clip_norm": 1.0})
    with pytest.raises(TaskFailed, match="clip_norm needs the norm of the whole gradient"):
        new_run(cls, shards=SHARDS, strategy="parameter-server")


def test_an_optimizer_may_draw_random_numbers() -> None:
    class Noisy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            super().step()
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.add_(torch.randn_like(parameter), alpha=1e-3)

    def optimizer(self: Any, model: nn.Module) -> torch.optim.Optimizer:
        return Noisy(model.parameters(), lr=0.1)

    cls = type("Noise", (Plain,), {"optimizer": optimizer})
    assert len({run.hash() for n in (1, 3) for run in trained(cls, 3, n)}) == 1
