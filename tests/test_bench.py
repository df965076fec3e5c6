"""The list of benchmarks is complete and its command says what there is."""

import importlib
from pathlib import Path

import pytest

from tools.bench.__main__ import BENCHMARKS, main
from tools.bench.barrier import lasted
from tools.bench.namespaces import abandoned
from tools.bench.serving.figures import Goal, Part, spread
from tools.bench.straggler import best_share


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_file(name: str) -> None:
    assert callable(importlib.import_module(f"tools.bench.{name}").main)


def test_the_command_lists_them_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
    assert main(["nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_namespaces_of_dead_processes_are_found(tmp_path: Path) -> None:
    run, proc = tmp_path / "netns", tmp_path / "proc"
    (proc / "12").mkdir(parents=True)
    run.mkdir()
    for name in ("p2p-bench-12-0", "p2p-bench-13-0", "p2p-bench-13-1", "p2p-bench-x-0", "other-13"):
        (run / name).touch()
    assert abandoned(run, proc) == ["p2p-bench-13-0", "p2p-bench-13-1"]
    assert abandoned(tmp_path / "none", proc) == []


def test_a_barrier_lasts_from_the_last_arrival_to_the_last_release() -> None:
    told = [[(0.0, 5.0), (6.0, 6.5)], [(4.0, 4.5), (5.0, 7.0)]]
    assert lasted(told) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("shards", "peers", "possible"), [(12, 2, 1.0), (12, 3, 36 / 42), (21, 3, 1.0)]
)
def test_what_whole_shards_allow_of_the_ideal_split(
    shards: int, peers: int, possible: float
) -> None:
    assert best_share(shards, peers, 1 / 3) == pytest.approx(possible)


def test_a_goal_is_reached_from_its_own_side() -> None:
    most, least = Goal("a gap", 0.5, 0.5, "s"), Goal("two beside one", 1.79, 1.8, "x", True)
    assert str(most) == "goal: a gap at most 0.5 s: 0.5 s - reached"
    assert str(least) == "goal: two beside one at least 1.8 x: 1.79 x - missed"
    assert Part([], [most]).is_well
    assert not Part([], [most, least]).is_well
    assert not Part([], [most], problems=["an answer is another one"]).is_well
    assert not Goal("of nothing", spread([])["median"], 1.0, "s").is_reached
