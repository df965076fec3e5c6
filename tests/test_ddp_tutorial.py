"""A tutorial's script learns the same with gloo and, under torchrun, with p2p."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FEATURES = Path(__file__).parent / "ddp_features.py"
SCRIPT = Path(__file__).parent / "ddp_tutorial.py"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(SCRIPT.parent.parent),
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
    runs = [start(str(SCRIPT), "gloo", "2"), start(*torchrun, str(SCRIPT), "p2p")]
    printed = []
    for run in runs:
        out, err = run.communicate(timeout=100)
        assert run.returncode == 0, err
        printed.append(out.strip())
    names, losses = zip(*(line.split(": ") for line in printed), strict=True)
    assert names == ("gloo", "p2p")
    assert losses[0] == losses[1]  # two ranks: x + y rounds as y + x does
    assert len(losses[0].split()) == 10


@pytest.mark.processes
def test_ddp_hooks_join_functional_and_object_collectives_do_as_with_gloo() -> None:
    run = start(str(FEATURES))
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert out.count(": as gloo") == len(out.splitlines()) == 11
