"""The synchronous parameter server: the bits of ring, whoever dies; state that is spread."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from collectives.errors import Aborted
from p2p.errors import Usage
from p2p.training.blame import TaskFailed
from p2p.training.layout import Wish
from p2p.training.method import Method
from p2p.training.run import Run
from p2p.training.spread import Diverged
from tests.fake_group import together
from tests.parameter_server_runs import SHARDS, begin, cuts, ending_groups, settled, step
from tests.training_fakes import new_run


class Plain:
    """Dropout, BatchNorm, a parameter that nothing uses, two kinds of numbers, a short batch."""

    global_batch = 24
    epochs = 3
    lr = 0.05
    kind: Any = torch.optim.AdamW

    def model(self) -> nn.Module:
        body = nn.Sequential(nn.Linear(6, 17), nn.BatchNorm1d(17), nn.ReLU(), nn.Dropout(0.2))
        model = nn.ModuleDict({"body": body, "head": nn.Linear(17, 3), "unused": nn.Linear(2, 2)})
        model["head"].double()  # type: ignore[operator]
        model.forward = lambda x: model["head"](model["body"](x).double())  # type: ignore[method-assign, operator]
        return model

    def dataset(self, split: str) -> TensorDataset:
        x = torch.randn(100, 6, generator=torch.Generator().manual_seed(1))
        return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch  # BatchNorm refuses a single sample
        return functional.cross_entropy(model(torch.cat([x, x + 1])), torch.cat([y, y]))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.kind(model.parameters(), lr=self.lr)
        return optimizer


def server_runs(count: int, cls: type = Plain, codec: str = "int32") -> list[Run]:
    spec = {"shards": SHARDS, "strategy": "parameter-server", "codec": codec}
    return [new_run(cls, **spec) for _ in range(count)]


def by_ring(steps: int, cls: type = Plain, codec: str = "int32") -> str:
    alone = [new_run(cls, shards=SHARDS, codec=codec)]
    step(alone, steps)
    return alone[0].hash()


KINDS = [
    torch.optim.AdamW,
    partial(torch.optim.SGD, momentum=0.9),
    torch.optim.NAdam,
    torch.optim.Rprop,
    torch.optim.ASGD,
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_of_ring_for_any_number_of_trainers(kind: Any) -> None:
    class Other(Plain):
        pass

    Other.kind = kind if isinstance(kind, partial) else staticmethod(kind)
    members = (1, 2, 3, 4) if kind is torch.optim.AdamW else (3,)
    expected = by_ring(6, Other)
    for count in members:
        runs = server_runs(count, Other)
        begin(runs)
        step(runs, 3)
        settled(runs)
        step(runs, 3)
        assert settled(runs) == expected
        assert all(run.position.ledger.lines()[0]["missing"] == 0 for run in runs)


def test_each_keeps_what_it_serves_and_backs_up() -> None:
    runs = server_runs(4)
    begin(runs)
    step(runs, 2)
    kept = [run.state.kept for run in runs]
    count = len(runs[0].state.trainable)
    for number in range(count):
        assert sum(number in own for own in kept if own is not None) == 2
    moments = [[n for n in run.state.tensors() if n.startswith("optimizer.")] for run in runs]
    assert sum(len(names) for names in moments) == 2 * len([*by_whole(runs)])


def by_whole(runs: list[Run]) -> list[str]:
    settled(runs)
    return [name for name in runs[0].state.tensors() if name.startswith("optimizer.")]


def ending_step(runs: list[Run], operations: int) -> int:
    """A step that is aborted in the midst, then perhaps a mark. How many applied it."""
    made = ending_groups(len(runs), operations)
    at = runs[0].position.step
    for rank, run in enumerate(runs):
        run.strategy.compute(at, run.batches(), cuts(len(runs))[rank], lambda: None)

    def one(rank: int) -> bool:
        try:
            runs[rank].apply(runs[rank].strategy.exchange(made[rank], at, Wish.NOTHING))
            runs[rank].settle(made[rank])
        except Aborted:
            return runs[rank].position.step > at
        return True

    return sum(together([partial(one, rank) for rank in range(len(runs))]))


TOTAL = 6


@pytest.fixture(scope="module")
def undisturbed() -> str:
    return by_ring(TOTAL)


@pytest.mark.parametrize("operations", [2, 13, 20, 21, 24, 26, 31, 35, 52])
def test_the_bits_of_ring_whoever_dies_at_any_message(undisturbed: str, operations: int) -> None:
    runs = server_runs(3)
    begin(runs)
    step(runs, 2)
    if operations % 2:
        settled(runs)
    applied = ending_step(runs, operations)
    del runs[operations // 3 % 3]
    if operations % 5 == 0:
        runs.insert(0, *server_runs(1))
    begin(runs)
    assert {run.position.step for run in runs} <= {2, 3}, (operations, applied)
    step(runs, TOTAL - runs[0].position.step)
    assert settled(runs) == undisturbed, (operations, applied)


def test_a_dead_servers_backup_takes_over_at_once() -> None:
    runs = server_runs(4)
    begin(runs)
    step(runs, 2)
    kept = [run.state.kept for run in runs]
    del runs[1]
    outcomes = begin(runs)
    assert [o.received for o in outcomes] == [None] * 3
    assert [run.position.step for run in runs] == [2] * 3
    for run, before in zip(runs, [kept[0], kept[2], kept[3]], strict=True):
        assert before is not None
        assert run.state.kept is not None
        assert run.state.kept & before


def test_what_one_has_applied_all_can_apply_also_without_it(undisturbed: str) -> None:
    runs = server_runs(4)
    begin(runs)
    step(runs, 3, apply_on={2})
    assert [run.position.step for run in runs] == [2, 2, 3, 2]
    outcomes = begin([runs[3], runs[2], runs[0]])  # rank 1 is dead
    assert [o.received for o in outcomes] == ["result", None, "result"]
    runs = [runs[3], runs[2], runs[0]]
    step(runs, TOTAL - 3)
    assert settled(runs) == undisturbed


def test_with_server_and_backup_gone_all_go_back_to_the_last_whole_state(undisturbed: str) -> None:
    runs = server_runs(4)
    begin(runs)
    step(runs, 2)
    settled(runs)
    step(runs, 2)
    partition = runs[0].strategy.partitions[0]  # type: ignore[attr-defined]
    runs = [run for rank, run in enumerate(runs) if rank not in partition.keepers]
    joined = [*server_runs(1), *runs]
    assert [o.received for o in begin(joined)] == ["state"] * 3
    assert {run.position.step for run in joined} == {2}
    step(joined, TOTAL - 2)
    assert settled(joined) == undisturbed


def test_from_and_to_the_ring(undisturbed: str) -> None:
    runs = [new_run(Plain, shards=SHARDS) for _ in range(3)]
    begin(runs)
    step(runs, 2)
    states = [run.pack() for run in runs]
    servers = server_runs(3)
    for run, state in zip(servers, states, strict=True):
        run.restore(state, runs[0].hash())
    begin(servers)
    step(servers, 2)
    for run in servers:
        run.use(Method("ring", "int32", revision=1))
    begin(servers)
    assert all(run.state.kept is None for run in servers)
    step(servers, 2)
    assert {run.hash() for run in servers} == {undisturbed}


def test_a_backup_that_differs_is_found() -> None:
    runs = server_runs(2)
    begin(runs)
    step(runs, 2)
    parameter = runs[1].state.trainable[0]
    with torch.no_grad():
        runs[1].state.optimizer.state[parameter]["exp_avg"].view(-1)[0] += 1e-3
    with pytest.raises(Diverged, match=r"optimizer state of .* differs"):
        settled(runs)


class Clipping(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.1)
        super().step()


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Clipping])
def test_an_optimizer_that_mixes_parameters_is_refused(kind: type) -> None:
    class Mixing(Plain):
        pass

    Mixing.kind = staticmethod(kind)
    with pytest.raises(TaskFailed, match=f"{kind.__name__} does not update every parameter by"):
        server_runs(1, Mixing)


def test_a_step_with_nan_is_skipped_by_all() -> None:
    class Exploding(Plain):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            bad = (batch[0][:, 0] == Plain().dataset("train").tensors[0][3, 0]).any()
            return super().loss(model, batch) * (float("nan") if bad else 1.0)

    expected = by_ring(5, Exploding)
    runs = server_runs(2, Exploding)
    begin(runs)
    step(runs, 5)
    assert settled(runs) == expected


@pytest.mark.parametrize("codec", ["int16", "int8"])
def test_narrower_integers(codec: str) -> None:
    runs = server_runs(3, codec=codec)
    begin(runs)
    step(runs, 3)
    assert settled(runs) == by_ring(3, codec=codec)


def test_other_codecs_are_refused() -> None:
    with pytest.raises(
        Usage, match=r"parameter-server cannot sum by topk:0\.1: its codecs are int32"
    ):
        server_runs(1, codec="topk:0.1")
