"""The asynchronous parameter server over groups without sockets: each sample's part exactly once.

The gradients do not depend on the parameters, and all sums are exact. So whatever was computed
when, with which version, and by whom: the state at a consistent point has the bits of ring, if and
only if every shard of every step went into every parameter exactly once, in the order of steps.
"""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from collectives.errors import Aborted
from collectives.operations import Group
from p2p.errors import Usage
from p2p.training.layout import Wish
from p2p.training.method import Method
from p2p.training.run import Run
from tests.fake_group import groups, together
from tests.parameter_server_runs import SHARDS, begin, cuts, ending_groups, settled, step
from tests.training_fakes import new_run

SIZES = (64, 48, 32, 8, 3)
TOTAL = 24


class Counting:
    """64 samples, 8 at a time; sample i adds to element i of each parameter (modulo its size)."""

    global_batch = 8
    epochs = 3
    lr = 0.125

    def model(self) -> nn.Module:
        model = nn.Module()
        for number, size in enumerate(SIZES):
            model.register_parameter(f"p{number}", nn.Parameter(torch.ones(size)))
        model.register_buffer("forwards", torch.zeros(3))
        model.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        return model

    def dataset(self, split: str) -> TensorDataset:
        return TensorDataset(torch.arange(64))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        with torch.no_grad():
            model.forwards += 1.0  # type: ignore[operator]
            model.seen += 1  # type: ignore[operator]
        sums = [p[batch[0] % len(p)].sum() for p in model.parameters()]
        return torch.stack(sums).sum() / len(batch[0])

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr)


def runs_of(count: int, staleness: int) -> list[Run]:
    options = {"staleness": str(staleness)}
    spec = {"shards": SHARDS, "strategy": "parameter-server", "options": options}
    return [new_run(Counting, **spec) for _ in range(count)]


def window(run: Run, group: Group, shards: tuple[int, int]) -> bool:
    """One round; False when it was aborted."""
    at = run.position.step
    try:
        run.strategy.compute(at, run.batches(), shards, lambda: None)
        run.apply(run.strategy.exchange(group, at, Wish.NOTHING))
    except Aborted:
        return False
    return True


def windows(runs: list[Run], until: int) -> None:
    """Rounds up to this step."""
    while runs[0].position.step < until:
        made = groups(len(runs))
        dealt = cuts(len(runs))
        assert all(together([partial(window, r, made[i], dealt[i]) for i, r in enumerate(runs)]))


@pytest.fixture(scope="module")
def undisturbed() -> str:
    alone = [new_run(Counting, shards=SHARDS)]
    step(alone, TOTAL)
    return alone[0].hash()


@pytest.mark.parametrize(("count", "staleness"), [(1, 2), (2, 1), (4, 8)])
def test_everything_goes_in_once(undisturbed: str, count: int, staleness: int) -> None:
    runs = runs_of(count, staleness)
    begin(runs)
    windows(runs, TOTAL // 2)
    settled(runs)
    windows(runs, TOTAL)
    assert settled(runs) == undisturbed
    assert runs[0].position.ledger.lines()[-1]["missing"] == 0
    (notice,) = runs[0].strategy.notices()
    assert notice.text.endswith(f"(at most {staleness} allowed)")


@pytest.mark.parametrize("operations", [7, 26, 45, 60, 76, 95, 118, 141])
def test_everything_goes_in_once_whoever_dies_at_any_message(
    undisturbed: str, operations: int
) -> None:
    runs = runs_of(3, 3)
    begin(runs)
    for run in runs:
        run.strategy._length = 8  # type: ignore[attr-defined]
    made, dealt = ending_groups(3, operations), cuts(3)
    ended = together([partial(window, r, made[i], dealt[i]) for i, r in enumerate(runs)])
    before = [run.state.versions for run in runs]
    del runs[operations % 3]
    if operations % 2:
        runs.insert(1, *runs_of(1, 3))
    outcomes = begin(runs)
    assert len({str(run.state.versions) for run in runs}) == 1, (ended, before, outcomes)
    windows(runs, TOTAL)
    assert settled(runs) == undisturbed, (ended, before)


def test_who_missed_the_end_of_a_window_takes_its_result(undisturbed: str) -> None:
    runs = runs_of(3, 2)
    begin(runs)
    windows(runs, 8)
    late, made, dealt = runs[1], groups(3), cuts(3)
    before = [p.detach().clone() for p in late.state.trainable]
    apply, late.apply = late.apply, lambda result: None  # type: ignore[method-assign]
    together([partial(window, r, made[i], dealt[i]) for i, r in enumerate(runs)])
    late.apply = apply  # type: ignore[method-assign]
    assert late.state.kept is not None
    assert late.state.versions is not None
    for number, parameter in enumerate(late.state.trainable):
        if number not in late.state.kept:  # as if the last of it had not arrived any more
            parameter.data.copy_(before[number])
            late.state.versions[number] = 8
    assert [o.received for o in begin(runs)] == [None, "result", None]
    for mine, others in zip(late.state.trainable, runs[0].state.trainable, strict=True):
        assert torch.equal(mine, others)
    windows(runs, TOTAL)
    assert settled(runs) == undisturbed


def test_a_window_ends_with_the_epoch_and_takes_about_half_a_second() -> None:
    (run,) = runs_of(1, 2)
    begin([run])
    assert run.strategy.span(0) == 3
    assert run.strategy.span(6) == 2
    windows([run], 3)
    assert run.strategy.span(3) == 5  # fast: as many as there are
    assert run.strategy.span(8) == 8


def test_a_step_with_nan_is_skipped_in_every_parameter(undisturbed: str) -> None:
    class Exploding(Counting):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * (float("nan") if (batch[0] == 9).any() else 1.0)

    alone = [new_run(Exploding, shards=SHARDS)]
    step(alone, TOTAL)
    spec = {"shards": SHARDS, "strategy": "parameter-server", "options": {"staleness": "2"}}
    runs = [new_run(Exploding, **spec) for _ in range(2)]
    begin(runs)
    windows(runs, TOTAL)
    assert settled(runs) == alone[0].hash() != undisturbed


def test_to_another_strategy_in_the_midst_of_a_window(undisturbed: str) -> None:
    runs = runs_of(2, 3)
    begin(runs)
    windows(runs, 8)
    settled(runs)
    made, dealt = ending_groups(2, 60), cuts(2)
    together([partial(window, r, made[i], dealt[i]) for i, r in enumerate(runs)])
    assert any(run.state.versions for run in runs)
    for run in runs:
        run.use(Method("ring", "int32", revision=1))
    assert [o.received for o in begin(runs)] == ["state"] * 2  # back to the last consistent point
    step(runs, TOTAL - runs[0].position.step)
    assert {run.hash() for run in runs} == {undisturbed}


def test_the_bound_is_a_whole_number() -> None:
    with pytest.raises(Usage, match="staleness is 'much': it must be a whole number from 0 to 64"):
        new_run(Counting, strategy="parameter-server", options={"staleness": "much"})
