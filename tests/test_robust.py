"""robust: one trainer of several computes garbage, the others go on, equal, and name it."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from p2p.errors import Usage
from p2p.tasks.digits import Digits
from p2p.training.blame import TaskFailed
from p2p.training.run import SKIPPED_IN_A_ROW_MAX, Run
from p2p.training.strategies.catalog import find
from p2p.training.strategies.robust_guard import NAMED_AFTER, Guard, Suspicion, guard
from p2p.training.strategies.strategy import Notice
from tests.fake_group import groups, together
from tests.training_fakes import new_run

Lie = Callable[[Run], None]
NAMED = "its gradients are far from all others', step after step"


class Quick(Digits):
    """The real data, a model that learns it in a few hundred small steps."""

    global_batch = 120
    epochs = 10
    lr = 1e-2

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))


class Normed(Quick):
    """With buffers: floats that are averaged, and a counter."""

    epochs = 1

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
        )


class Tiny(Quick):
    """Fewer samples per step, where it is not what is learned that counts."""

    global_batch = 8


class Own(Quick):
    """Its own aggregation: the mean of the rows, shortened to the median of their norms."""

    epochs = 1

    def aggregate(self, contributions: Tensor, weights: Tensor) -> Tensor:
        norms = contributions.norm(dim=1)
        shortened = contributions * (norms.median() / norms).clamp(max=1.0)[:, None]
        return (weights.float() / weights.float().sum()) @ shortened


def play(
    cls: type,
    trainers: int = 4,
    lie: Lie | None = None,
    liar: int = 2,
    steps: int | None = None,
    shards: int | None = None,
    **options: Any,
) -> list[Run]:
    """Train together; `lie` changes what trainer `liar` computed. All must end equal."""
    shards = shards or trainers
    spec = {"strategy": "robust", "shards": shards, "steps": steps, "task_class": cls.__name__}
    spec["options"] = {name: str(value) for name, value in options.items() if name != "strategy"}
    spec |= {"strategy": options.get("strategy", "robust")}
    runs = [new_run(cls, **spec) for _ in range(trainers)]
    cuts = [(shards * i // trainers, shards * (i + 1) // trainers) for i in range(trainers)]
    made = groups(trainers)
    together([partial(run.strategy.enter, made[i], cuts) for i, run in enumerate(runs)])
    while not runs[0].done:
        for rank, run in enumerate(runs):
            run.strategy.compute(run.position.step, run.batches(), cuts[rank], lambda: None)
            if lie is not None and rank == liar:
                lie(run)
        calls = [
            partial(run.strategy.exchange, made[rank], run.position.step, rank == 0)
            for rank, run in enumerate(runs)
        ]
        for run, result in zip(runs, together(calls), strict=True):
            assert result.agreed.mark
            run.apply(result)
    assert len({run.hash() for run in runs}) == 1
    assert all(run.strategy.notices() == runs[0].strategy.notices() for run in runs)
    return runs


def accuracy(run: Run) -> float:
    shards = (0, run.schedule.shards)
    return run.evaluation.run(groups(1)[0], 0, shards, lambda: None)["accuracy"]


@cache
def honest_loss(trainers: int, rule: str) -> float | None:
    (run, *_) = play(Quick, trainers, steps=NAMED_AFTER, rule=rule)
    assert run.strategy.notices() == []
    return run.position.loss


def noise(run: Run) -> None:
    random = np.random.default_rng(run.position.step)
    run.gradients.rows[...] = random.standard_normal(run.gradients.rows.shape)


def set_rows(value: float) -> Lie:
    def lie(run: Run) -> None:
        run.gradients.rows[...] = value

    return lie


def one_nan(run: Run) -> None:
    run.gradients.rows[0, 17] = np.nan


def turned_round(run: Run) -> None:
    run.gradients.rows[...] *= -30


def wrong_samples(run: Run) -> None:
    run.gradients.said[run.gradients.layout.prints] += 1


def too_few_numbers(run: Run) -> None:
    run.gradients.said = np.concatenate([run.gradients.said, np.zeros(3)])


def loss_is_nan(run: Run) -> None:
    run.gradients.said[run.gradients.layout.not_finite] = 1.0


def too_short(run: Run) -> None:
    """What this trainer contributes has another length, though not its statement."""
    strategy: Any = run.strategy
    strategy._contribution = lambda samples: np.zeros(strategy._length - 70, np.float32)


LIES = [
    *(noise, set_rows(np.inf), set_rows(3e38), one_nan, turned_round, wrong_samples),
    *(too_few_numbers, loss_is_nan, too_short),
]


def test_noise_of_one_in_four_spoils_a_ring_but_not_the_median() -> None:
    (spoilt, *_) = play(Quick, lie=noise, strategy="ring", steps=24)
    assert accuracy(spoilt) < 0.5
    (kept, *_) = play(Quick, lie=noise)
    assert accuracy(kept) >= 0.95
    assert kept.strategy.notices() == [Notice(NAMED, 2)]


RULES = itertools.cycle([("median", 4), ("trimmed", 3), ("krum", 5)])
EVERY_LIE = [(lie, *next(RULES)) for lie in LIES] + [(noise, *next(RULES)) for _ in range(3)]


@pytest.mark.parametrize(("lie", "rule", "trainers"), EVERY_LIE)
def test_garbage_of_every_kind_is_outvoted_and_named(lie: Lie, rule: str, trainers: int) -> None:
    runs = play(Quick, trainers, lie, liar=1, steps=NAMED_AFTER, rule=rule)
    assert runs[0].strategy.notices() == [Notice(NAMED, 1)]
    assert runs[0].position.skipped == 0
    assert runs[0].position.loss == pytest.approx(honest_loss(trainers, rule), rel=0.3)


@pytest.mark.parametrize("lie", [noise, one_nan])
def test_buffers_are_guarded_too(lie: Lie) -> None:
    (run, *_) = play(Normed, lie=lie)
    buffers = dict(run.model.named_buffers())
    assert float(buffers["2.running_mean"].abs().max()) < 3
    assert int(buffers["2.num_batches_tracked"]) == run.position.step


def test_unequal_shares_and_trainers_without_any() -> None:
    """More trainers than shards with samples: those without have no vote."""
    runs = play(Quick, trainers=5, steps=NAMED_AFTER, shards=4, lie=noise, liar=2)
    assert runs[0].strategy.notices() == [Notice(NAMED, 2)]
    assert np.isfinite(runs[0].position.loss)


@pytest.mark.parametrize("trainers", range(1, 10))
def test_any_number_of_trainers_ends_equal_and_without_faults_as_a_ring(trainers: int) -> None:
    play(Tiny, trainers, steps=2, shards=9, rule=("median", "trimmed", "krum")[trainers % 3])
    (mean, *_) = play(Tiny, trainers, steps=2, shards=9, faulty=0)
    (ring, *_) = play(Tiny, trainers, steps=2, shards=9, strategy="ring")
    for name, value in ring.state.tensors().items():
        assert np.allclose(mean.state.tensors()[name], value, rtol=1e-3, atol=1e-5), name


def test_more_garbage_than_is_tolerated_skips_the_step() -> None:
    with pytest.raises(TaskFailed, match=f"NaN or Inf for {SKIPPED_IN_A_ROW_MAX} steps in a row"):
        play(Tiny, trainers=2, lie=one_nan, liar=1)

    def at_last(run: Run) -> None:
        if run.position.step > 0:
            one_nan(run)

    (run, *_) = play(Quick, lie=at_last, faulty=0, steps=3)
    assert run.position.skipped == 2


@pytest.mark.parametrize(
    ("rule", "faulty", "trainers", "expected", "reason"),
    [
        ("median", 1, 4, Guard("median", 1), ""),
        ("median", 0, 1, Guard("median", 0), ""),
        ("trimmed", 2, 5, Guard("trimmed", 2), ""),
        ("krum", 1, 5, Guard("krum", 1), ""),
        ("krum", 0, 1, Guard("krum", 0), ""),
        ("task", 1, 2, Guard("task", 0), ""),
        ("krum", 1, 4, Guard("median", 1), "needs 5 trainers, there are 4: the median is used"),
        ("trimmed", 2, 4, Guard("median", 1), "needs 5 trainers, there are 4: the median now tol"),
        ("median", 1, 2, Guard("median", 0), "needs 3 trainers, there are 2: the average is unpr"),
        ("median", 1, 1, Guard("median", 0), "needs 3 trainers, there is 1: the average is unpro"),
    ],
)
def test_too_few_trainers_weaken_the_guard_and_say_so(
    rule: str, faulty: int, trainers: int, expected: Guard, reason: str
) -> None:
    got = guard(rule, faulty, trainers)
    assert replace(got, reason=None) == expected
    assert reason in (got.reason or "")
    assert bool(reason) == bool(got.reason)


def test_what_is_weaker_than_asked_for_is_a_notice() -> None:
    (run, *_) = play(Quick, trainers=4, steps=1, rule="krum")
    assert [notice.rank for notice in run.strategy.notices()] == [None]
    assert "the median is used instead" in run.strategy.notices()[0].text


def test_only_who_is_odd_step_after_step_is_named() -> None:
    suspicion = Suspicion(3)
    for step in range(5 * NAMED_AFTER):
        suspicion.note({step % 2} if step % (NAMED_AFTER - 1) else {2})
    assert suspicion.named == []
    suspicion = Suspicion(2)
    for _ in range(NAMED_AFTER):
        assert suspicion.named == []
        suspicion.note({1})
    for _ in range(NAMED_AFTER - 1):
        suspicion.note(set())
    suspicion.note({1})
    assert suspicion.named == [1]
    for _ in range(NAMED_AFTER):
        suspicion.note({0})
    assert suspicion.named == [0]


def test_the_users_own_rule() -> None:
    (run, *_) = play(Own, lie=turned_round, rule="task")
    assert run.strategy.notices() == [Notice(NAMED, 2)]
    assert accuracy(run) > 0.6
    assert play(Own, lie=one_nan, rule="task", steps=2)[0].position.skipped == 0


def aggregates(cls: type, function: Callable[..., Any]) -> type:
    return type("Mine", (cls,), {"aggregate": function})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda self, rows, weights: rows, r"gave shape \(4, 7210\), not \[7210\]"),
        (lambda self, rows, weights: None, r"gave None, not \[7210\]"),
        (lambda self, rows, weights: rows[0] * np.inf, "gave NaN or Inf for finite contributions"),
        (lambda self, rows, weights: rows[0] + next(COUNTER), "other bits on another trainer"),
        (lambda self, rows, weights: rows[9], "IndexError"),
    ],
)
def test_errors_in_the_users_rule_name_its_file_and_line(
    function: Callable[..., Any], said: str
) -> None:
    with pytest.raises(TaskFailed, match=said) as caught:
        play(aggregates(Quick, function), rule="task", steps=1)
    line = function.__code__.co_firstlineno
    assert f"test_robust.py:{line}" in str(caught.value)


COUNTER = iter(range(1000))


def test_a_task_without_its_own_rule_is_told() -> None:
    with pytest.raises(TaskFailed, match=r"needs aggregate\(self, contributions, weights\)"):
        play(Quick, rule="task")
    with pytest.raises(Usage, match="rule is 'mode': there is median, trimmed, krum, task"):
        find("robust").parse({"rule": "mode"})
    with pytest.raises(Usage, match="faulty is '-1': it must be a whole number from 0"):
        find("robust").parse({"faulty": "-1"})
