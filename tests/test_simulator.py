"""The simulator finds nothing wrong with the core, catches a broken one, and repeats itself."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tools import simulate
from tools.sim.disk import Disk
from tools.sim.parameters import Parameters, draw
from tools.sim.run import Outcome, run

ROOT = Path(__file__).parent.parent
SEEDS = 24
MUTANT_SEEDS = 500


@pytest.mark.parametrize("first", range(1, SEEDS + 1, 6))
def test_seeds_are_clean(first: int) -> None:
    for seed in range(first, first + 6):
        outcome = run(draw(seed))
        replay = f"replay: python -m tools.simulate --seed {seed}"
        assert outcome.invariant is None, f"{outcome.invariant}: {outcome.sentence} {replay}"
        assert outcome.counts["commits"] > 0


def test_one_seed_gives_one_trace(tmp_path: Path) -> None:
    """In two processes whose string hashes differ: no set may decide an order anywhere."""
    traces = []
    for hash_seed in ("1", "2"):
        file = tmp_path / f"{hash_seed}.trace"
        subprocess.run(
            [sys.executable, "-m", "tools.simulate", "--seed", "12", "--trace", str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            timeout=60,
        )
        traces.append(file.read_bytes())
    assert traces[0].count(b"\n") > 100
    assert traces[0] == traces[1]


@pytest.mark.parametrize("mutant", sorted(simulate.HOST_MUTATIONS))
def test_a_broken_loop_is_caught(mutant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--mutant", mutant, "--seeds", str(MUTANT_SEEDS)]) == 0
    told = capsys.readouterr().out
    assert f"{mutant}: caught after " in told
    assert f"python -m tools.simulate --seed {told.split('--seed ')[1].split()[0]}" in told


def test_a_failing_seed_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(parameters: Parameters, mutations: object = None, tracing: bool = False) -> Outcome:
        return run(parameters, frozenset({"host-never-sync"}), tracing)

    monkeypatch.setattr("tools.simulate.run", broken)
    assert simulate.main(["--seeds", "50"]) == 1
    told = capsys.readouterr().err
    assert "replay: python -m tools.simulate --seed " in told
    assert "commit " in told
    assert "NOT DETERMINISTIC" not in told


def test_a_power_cut_takes_only_what_was_not_synced() -> None:
    for seed in range(50):
        disk = Disk()
        disk.write(b"promised")
        disk.sync()
        disk.write(b"not yet")
        disk.power_cut(Random(seed))
        assert bytes(disk.durable).startswith(b"promised")
        assert disk.length <= len(b"promised") + 64
