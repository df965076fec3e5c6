"""local-sgd: rounds of local steps, averaged; and a run that changes its strategy."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from collectives.errors import Aborted
from p2p.training.blame import TaskFailed
from p2p.training.catchup import CaughtUp, catch_up
from p2p.training.method import Method
from p2p.training.run import Run
from tests.fake_group import groups, together
from tests.test_training_gradients import Exploding, NoDropout, Normed, Plain, groupings
from tests.training_fakes import new_run, steps

CUTS = [(0, 3), (3, 7)]


def local(cls: type, local_steps: int = 4, shards: int = 7, **options: Any) -> Run:
    texts = {"local_steps": str(local_steps), **{name: str(v) for name, v in options.items()}}
    return new_run(cls, strategy="local-sgd", options=texts, shards=shards)


def caught_up(runs: Sequence[Run]) -> list[CaughtUp]:
    made = groups(len(runs))
    return together([lambda r=r, i=i: catch_up(made[i], r) for i, r in enumerate(runs)])


class Momentum(NoDropout):
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("cls", "inner"),
    [(Plain, "average"), (Plain, "reset"), (Normed, "average"), (Momentum, "average")],
)
def test_same_bits_whoever_computes_which_shard(cls: type, inner: str) -> None:
    hashes = set()
    for cuts in groupings()[:4:3] + groupings()[4:]:
        runs = [local(cls, inner_state=inner) for _ in cuts]
        steps(runs, cuts, 5, set(range(len(cuts))))
        hashes |= {run.hash() for run in runs}
        lines = runs[0].position.ledger.lines()
        assert [line["missing"] + line["repeated"] for line in lines] == [0] * len(lines)
    assert len(hashes) == 1


def test_rounds_end_with_the_epoch_and_with_the_job() -> None:
    run = new_run(*(Plain,), shards=7, steps=16, strategy="local-sgd", options={"local_steps": "4"})
    spans = []
    while not run.done:
        spans.append(run.strategy.span(run.position.step))
        steps([run], [(0, 7)], 1, {0})
    assert spans == [4, 2, 4, 2, 4], "6 steps per epoch"


@pytest.mark.parametrize("cls", [NoDropout, Momentum])
def test_one_shard_and_the_plain_average_is_what_plain_pytorch_does(cls: type) -> None:
    run = local(cls, shards=1, outer_lr=1, outer_momentum=0)
    task = cls()
    plain = task.model()
    plain.load_state_dict(run.model.state_dict())
    optimizer = task.optimizer(plain)
    for step in range(6):
        used = torch.from_numpy(run.samples_of(step))
        optimizer.zero_grad()
        task.loss(plain, [t[used] for t in task.dataset("train").tensors]).backward()
        optimizer.step()
    steps([run], [(0, 1)], 2, {0})
    assert "strategy.outer_momentum" not in run.tensors()
    for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    ours_state = list(run.state.optimizer.state.values())
    for number, theirs in enumerate(optimizer.state.values()):
        assert ours_state[number].keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours_state[number][key], value, rtol=1e-3, atol=1e-6)


def test_the_outer_step_is_nesterov_s_on_the_weighted_average() -> None:
    run = local(NoDropout, local_steps=1, shards=2, outer_lr=0.5, outer_momentum=0.8)
    before = [p.detach().clone() for p in run.model.parameters()]
    plain = local(NoDropout, local_steps=1, shards=2, outer_lr=1, outer_momentum=0)
    steps([run, plain], [(0, 2), (0, 0)], 0, set())
    steps([run], [(0, 2)], 1, {0})
    steps([plain], [(0, 2)], 1, {0})
    for old, one, other in zip(
        before, run.model.parameters(), plain.model.parameters(), strict=True
    ):
        torch.testing.assert_close(one, old - 0.5 * 1.8 * (old - other), rtol=1e-4, atol=1e-6)


def test_reset_forgets_the_moments_after_every_round() -> None:
    run = local(Plain, inner_state="reset")
    steps([run], [(0, 7)], 1, {0})
    assert not any("optimizer." in name for name in run.tensors())
    assert run.strategy.retained is not None
    average = local(Plain).strategy.room(0)
    assert len(average.values) > 2 * len(run.strategy.retained.values)


def test_a_round_with_nan_is_skipped_by_all_and_only_that() -> None:
    runs = [local(Exploding, 3), local(Exploding, 3)]
    bad = next(step for step in range(6) if 3 in runs[0].samples_of(step))
    for first in (0, 3):
        before = runs[0].hash()
        steps(runs, CUTS, 1, {0, 1})
        assert (runs[0].hash() == before) == (first <= bad < first + 3)
        assert runs[0].hash() == runs[1].hash()
    assert runs[0].position.ledger.lines()[0]["missing"] == 0


def test_computing_leaves_no_trace_also_when_it_is_aborted() -> None:
    run = local(Normed)
    steps([run], [(0, 7)], 1, {0})
    before, calls = run.hash(), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise Aborted("over")

    with pytest.raises(Aborted):
        run.strategy.compute(run.position.step, run.batches(), (0, 7), check)
    run._hash = (-1, "")
    assert run.hash() == before
    run.strategy.compute(run.position.step, run.batches(), (0, 7), lambda: None)
    run._hash = (-1, "")
    assert run.hash() == before


@pytest.mark.parametrize("late", [(1, 0, 0), (0, 1, 1)])
def test_behind_by_one_round_takes_its_result(late: tuple[int, ...]) -> None:
    runs = [local(Plain) for _ in late]
    steps(runs, [(0, 2), (2, 5), (5, 7)], 4, {rank for rank in range(3) if not late[rank]})
    assert {run.position.step for run in runs} == {10, 12}
    assert [told.received for told in caught_up(runs)] == ["result" if x else None for x in late]
    assert len({(run.position.step, run.hash()) for run in runs}) == 1


def test_a_joiner_gets_the_outer_momentum_too() -> None:
    runs = [local(Normed), local(Normed)]
    steps(runs, CUTS, 2, {0, 1})
    joined = [local(Normed), *runs]
    assert [told.received for told in caught_up(joined)] == ["state", None, None]
    assert "strategy.outer_momentum" in runs[0].tensors()
    steps(joined, [(0, 2), (2, 2), (2, 7)], 2, {0, 1, 2})
    alone = local(Normed)
    steps([alone], [(0, 7)], 4, {0})
    assert {run.hash() for run in joined} == {alone.hash()}


def test_an_optimizer_that_counts_elsewhere_needs_reset() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["made"] = self.param_groups[0].get("made", 0) + 1
            return super().step(closure)

    class Task(Plain):
        def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
            return Counting(model.parameters(), lr=0.1)

    with pytest.raises(TaskFailed, match=r"Counting counts .* inner_state=reset"):
        local(Task)
    assert local(Task, inner_state="reset").strategy.tensors()


# -- another strategy from a step on ---------------------------------------------------------------

RING = Method("ring", "int32", {}, 2)
LOCAL = Method("local-sgd", "int32", {"local_steps": "2"}, 1)


def test_strategies_change_at_a_step_and_all_have_the_same_bits() -> None:
    hashes = set()
    for cuts in groupings()[:3]:
        runs = [new_run(Plain, shards=7) for _ in cuts]
        for method, count in ((None, 3), (LOCAL, 2), (RING, 2)):
            for run in runs:
                run.use(method)
            everybody = set(range(len(runs)))
            assert [told.received for told in caught_up(runs)] == [None] * len(runs)
            steps(runs, cuts, count, everybody)
        hashes |= {run.hash() for run in runs}
        assert runs[0].position.step == 3 + 3 + 2, "a round of 2, one of 1 up to the epoch's end"
    assert len(hashes) == 1


def test_who_missed_a_change_gets_the_whole_state() -> None:
    runs = [new_run(Plain, shards=7), new_run(Plain, shards=7)]
    steps(runs, CUTS, 3, {0})
    for run in runs:
        run.use(LOCAL)
    assert [told.received for told in caught_up(runs)] == [None, "state"]
    steps(runs, CUTS, 2, {0, 1})
    again = Method("local-sgd", "int32", {"local_steps": "2"}, 3)
    for run, method in zip(runs, (again, again), strict=True):
        assert run.strategy.tensors()["outer_momentum"].any()
        run.use(LOCAL)  # the same one goes on
        assert run.strategy.tensors()["outer_momentum"].any()
        run.use(method)  # set anew: begins anew, on all alike
        assert not run.strategy.tensors()["outer_momentum"].any()


@pytest.mark.parametrize(("revision", "kept"), [(1, True), (3, False)])
def test_a_checkpoint_s_strategy_goes_on_only_if_it_is_still_the_one(
    revision: int, kept: bool
) -> None:
    run = new_run(Plain, shards=7)
    run.use(LOCAL)
    steps([run], [(0, 7)], 2, {0})
    fresh = new_run(Plain, shards=7)
    fresh.restore(run.pack(), run.hash())
    fresh.use(Method("local-sgd", "int32", {"local_steps": "2"}, revision))
    assert bool(fresh.strategy.tensors()["outer_momentum"].any()) == kept
    assert (fresh.hash() == run.hash()) == kept
