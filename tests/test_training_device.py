"""Training on a device: rows that come late to the host, and, where there is a GPU, on that."""

import random
from collections import namedtuple
from typing import Any

import pytest
import torch

from p2p.errors import P2PError
from p2p.training import device
from p2p.training import task as tasks
from p2p.training.device import CPU, DeviceRows, moved, take
from p2p.training.run import Run
from p2p.training.spec import parse
from tests.test_far_tensors import FakeCopies, gpu
from tests.test_training_codecs import SHARDS, Small
from tests.training_fakes import new_run, steps

Pair = namedtuple("Pair", "x y")  # as a task may have it


class LateRows(FakeCopies):
    """What is computed is there at once, what is copied comes late."""

    def compute_after(self, event: Any) -> None:
        self.finish(event)


def trained(runs: list[Run]) -> str:
    cuts = [(SHARDS * i // len(runs), SHARDS * (i + 1) // len(runs)) for i in range(len(runs))]
    steps(runs, cuts, 4, set(range(len(runs))))
    (found,) = {run.hash() for run in runs}
    return found


@pytest.mark.parametrize("strategy", ["ring", "robust"])
def test_late_rows_are_waited_for(strategy: str) -> None:
    """The bits are those of a trainer that computes in the host's memory."""
    spec = {"shards": SHARDS, "strategy": strategy}
    runs = [new_run(Small, **spec) for _ in range(2)]
    devices = [LateRows(random.Random(seed)) for seed in range(2)]
    for run, each in zip(runs, devices, strict=True):
        run.gradients.carrier = DeviceRows(each)
    assert trained(runs) == trained([new_run(Small, **spec) for _ in range(2)])
    assert all(len(each.given) == 1 for each in devices)  # the same memory in every step


def test_whole_batches_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    away = torch.device("meta")
    one = torch.zeros(2)
    batch = {"pair": Pair(one, [one, "text"]), "more": (one, 3)}
    there = moved(batch, away)
    assert type(there["pair"]) is Pair
    found = [there["pair"].x, there["pair"].y[0], there["more"][0]]
    assert [each.device for each in found] == [away] * 3
    assert (there["pair"].y[1], there["more"][1]) == ("text", 3)
    assert moved(batch, CPU) is batch


def test_a_gpu_that_cannot_be_used_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> None:
        raise RuntimeError("No CUDA GPUs are available\nand more")

    for variable in ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(variable, "")  # put back afterwards
    monkeypatch.setattr(device.torch.cuda, "init", fails)
    with pytest.raises(P2PError) as failure:
        take("GPU-1f")
    assert str(failure.value) == (
        "cannot compute on GPU-1f: No CUDA GPUs are available; start this peer with --device cpu"
    )
    assert take(None) == CPU


def on_gpu(**spec: Any) -> Run:
    parsed = parse({"id": "j", "task": "t.py:T", "task_class": "T", "seed": 3, **spec})
    run = Run(parsed, tasks.create(Small, parsed), torch.device("cuda", 0))
    run.warm_up()
    return run


@gpu
@pytest.mark.parametrize("strategy", ["ring", "local-sgd", "parameter-server"])
def test_the_same_bits_on_a_gpu_for_any_number_of_trainers(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", device.CUBLAS_WORKSPACE)
    spec = {"shards": SHARDS, "strategy": strategy}
    alone = on_gpu(**spec)
    assert next(alone.model.parameters()).is_cuda
    expected = trained([alone])
    if strategy != "parameter-server":  # which keeps a part of the state on each
        assert trained([on_gpu(**spec) for _ in range(2)]) == expected
        other = on_gpu(**spec)
        other.restore(alone.pack(), expected)
        assert other.hash() == expected
        assert trained([other]) == trained([alone])
