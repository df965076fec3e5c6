"""Hash, checkpoint bytes and files; nothing half written, nothing half restored."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from p2p.training import checkpoint
from p2p.training.blame import TaskFailed
from p2p.training.checkpoint import Damaged
from p2p.training.checkpoints import CHECKPOINT_S, EPOCH_CHECKPOINT_S, is_due
from p2p.training.generation import marks_apart_s
from p2p.training.state import TrainingState, Unfit, state_hash
from tests.test_training_gradients import Plain
from tests.training_fakes import new_run, steps


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4, bias=False)
        self.two = nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.tensor(2, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(self.one(x))
        return out


def stepped(**options: Any) -> TrainingState:
    torch.manual_seed(3)
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return TrainingState(model, optimizer)


def test_hash_is_sha256_of_raw_bytes_in_sorted_name_order() -> None:
    state = stepped()
    assert list(state.tensors()) == [
        *("one.weight", "optimizer.one.weight.exp_avg", "optimizer.one.weight.exp_avg_sq"),
        *("optimizer.one.weight.step", "scale", "two.weight"),
    ]
    raw = b"".join(np.ascontiguousarray(t.numpy()).tobytes() for t in state.tensors().values())
    assert state_hash(state.tensors()) == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    half = {"a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).t()}
    assert state_hash(half) == state_hash({"a": half["a"].contiguous()})


def test_state_travels_and_goes_on_equally() -> None:
    state = stepped(amsgrad=True)
    state.optimizer.param_groups[0]["lr"] = 0.025
    metadata = {"optimizer": state.scalars()}
    tensors, said = checkpoint.unpack(checkpoint.pack(state.snapshot(), metadata))
    other = stepped(amsgrad=True)
    other.restore(tensors, said["optimizer"])
    for each in (state, other):
        each.model(torch.ones(1, 4)).sum().backward()
        each.optimizer.step()
    assert state_hash(state.tensors()) == state_hash(other.tensors())
    assert other.optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_what_does_not_fit_changes_nothing() -> None:
    state, before = stepped(), state_hash(stepped().tensors())
    good = state.snapshot()
    for wrong in (
        {k: v for k, v in good.items() if k != "scale"},
        {**good, "one.weight": torch.zeros(3, 4)},
        {**good, "optimizer.three.weight.exp_avg": torch.zeros(1)},
    ):
        with pytest.raises(Unfit):
            state.restore(wrong, state.scalars())
    with pytest.raises(Unfit):
        state.restore(good, {"groups": []})
    assert state_hash(state.tensors()) == before


def test_an_optimizer_that_cannot_travel_is_refused() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(model.parameters())
    state = TrainingState(model, optimizer)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    optimizer.step(closure)
    with pytest.raises(TaskFailed, match=r"LBFGS keeps .* as a list"):
        state.tensors()
    with pytest.raises(TaskFailed, match="a parameter that the model does not"):
        TrainingState(nn.Linear(2, 1), optimizer)


def test_metadata_has_step_and_ledger() -> None:
    run = new_run(Plain, shards=3)
    steps([run], [(0, 3)], 4, {0})
    data = run.pack()
    size = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + size])["__metadata__"]
    assert json.loads(text["step"]) == 4
    assert json.loads(text["ledger"])[0]["samples"] == 80


def test_a_state_of_another_job_or_damaged_is_refused() -> None:
    run = new_run(Plain, shards=3)
    steps([run], [(0, 3)], 4, {0})
    data = run.pack()
    with pytest.raises(Damaged, match=r"this job has"):
        new_run(Plain, shards=4).restore(data, run.hash())
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    fresh = new_run(Plain, shards=3)
    with pytest.raises(Damaged, match="its state is not sha256"):
        fresh.restore(flipped, run.hash())
    for cut in (0, 5, 100, len(data) - 1):
        with pytest.raises(Damaged):
            fresh.restore(data[:cut], run.hash())
    assert fresh.hash() == new_run(Plain, shards=3).hash()
    assert fresh.position.step == 0


@pytest.mark.parametrize(
    ("step", "every", "ends_epoch", "age_s", "due"),
    [
        (30, 30, False, 0.0, True),
        (31, 30, True, 1e9, False),
        (24, None, True, EPOCH_CHECKPOINT_S - 0.1, False),
        (24, None, True, EPOCH_CHECKPOINT_S, True),
        (25, None, False, CHECKPOINT_S - 0.1, False),
        (25, None, False, CHECKPOINT_S, True),
    ],
)
def test_when_a_checkpoint_is_due(
    step: int, every: int | None, ends_epoch: bool, age_s: float, due: bool
) -> None:
    assert is_due(step - 1, step, every, ends_epoch, age_s) == due


def test_a_round_that_passes_a_multiple_makes_a_checkpoint_due() -> None:
    ends = [8, 16, 24, 32, 40, 48]
    assert [end for end in ends if is_due(end - 8, end, 15, False, 0.0)] == [16, 32, 48]


@pytest.mark.parametrize(
    ("ordered_s", "took_s", "apart_s"),
    [(0.5, 0.0002, 0.5), (0.5, 0.005, 0.5), (0.5, 0.09, 9.0), (0.5, 60.0, 10.0), (0.0, 1.0, 0.0)],
)
def test_marks_of_a_large_state_are_rarer(ordered_s: float, took_s: float, apart_s: float) -> None:
    assert marks_apart_s(ordered_s, took_s) == pytest.approx(apart_s)
