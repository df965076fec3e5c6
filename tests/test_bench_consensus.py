"""The consensus benchmark: what it refuses, what its figures mean, and a short run of ours."""

import math

import pytest

from tools.bench import consensus
from tools.bench.contender import Missing, free_ports, median, percentile
from tools.bench.rivals import etcd


def test_figures() -> None:
    values = [float(value) for value in range(1, 101)]
    assert median(values) == 50.5
    assert percentile(values, 0.99) == 100.0
    assert percentile(values, 0.5) == 51.0
    assert percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.99))
    assert math.isnan(median([]))


def test_ports_are_different() -> None:
    assert len(set(free_ports(6))) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--against", "zookeeper"], "there are etcd, pysyncobj"), (["--only", "all"], "rounds")],
)
def test_it_refuses_what_it_does_not_know(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        consensus.main(arguments)
    assert said in capsys.readouterr().err


def test_a_rival_that_is_missing_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(etcd.shutil, "which", lambda name: None)
    with pytest.raises(Missing):
        etcd.Etcd()
    assert consensus.main(["--against", "etcd"]) == 1
    assert "apt install etcd-server" in capsys.readouterr().err


@pytest.mark.processes
def test_three_peers_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert consensus.main(["--only", "rounds", "--rounds", "1", "--seconds", "0.2"]) == 0
    assert "p2pnode" in capsys.readouterr().out
