"""The torch backend in processes of its own: beside gloo, under torchrun, with a rank killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TUTORIAL, FEATURES = TESTS / "ddp_tutorial.py", TESTS / "ddp_features.py"
KILLED_RANK = TESTS / "torch_killed_rank.py"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(TESTS.parent),
    "OMP_NUM_THREADS": "1",  # torchrun warns when it has to choose
}


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.processes
def test_the_tutorial_prints_the_same_losses_with_gloo_and_with_p2p() -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    runs = [start(str(TUTORIAL), "gloo", "2"), start(*torchrun, str(TUTORIAL), "p2p")]
    runs.append(start("-m", "tests.torch_two_hosts"))
    printed = []
    for run in runs:
        out, err = run.communicate(timeout=100)
        assert run.returncode == 0, err
        printed.append(out.strip())
    names, losses = zip(*(line.split(": ") for line in printed), strict=True)
    assert names == ("gloo", "p2p", "p2p from 127.0.0.1 to 127.0.0.2")
    assert losses[0] == losses[1] == losses[2]  # two ranks: x + y rounds as y + x does
    assert len(losses[0].split()) == 10


@pytest.mark.processes
def test_ddp_hooks_join_functional_and_object_collectives_do_as_with_gloo() -> None:
    run = start(str(FEATURES))
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert out.count(": as gloo") == len(out.splitlines()) == 11


@pytest.mark.processes
def test_a_killed_rank_is_named_to_all_who_need_it_and_no_input_changes() -> None:
    run = start(str(KILLED_RANK))
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    first, second = out.splitlines()
    for line in (first, second):
        assert line.count("rank 2") >= 2, line
        assert line.endswith("soon True, input untouched True")
