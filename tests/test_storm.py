"""tools.storm: what it compares, and that the simulator's ring sees what must not be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from p2p.training import checkpoint
from p2p.training.state import state_hash
from tools.sim.ring import History, Ring
from tools.sim.violation import Violation
from tools.storm.jobs import Jobs
from tools.storm.verdict import figures, lost_checkpoints, problems_of, stray_files

ROW = {"epoch": 1, "samples": 60, "distinct": 60, "repeated": 0, "missing": 0}
CALM: dict[str, Any] = {"state_hash": "sha256:a", "ledger": [ROW]}
JOB: dict[str, Any] = {"id": "job-1", "name": "digits-1", "state": "finished", "reason": "", **CALM}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"state": "failed", "reason": "why"}, "job-1 (digits-1) failed: why"),
        (
            {"state_hash": "sha256:b"},
            "job-1 (digits-1) ended with sha256:b, undisturbed with sha256:a",
        ),
    ],
)
def test_a_job_is_compared_with_a_calm_one(changed: dict[str, Any], problem: str | None) -> None:
    assert list(problems_of({**JOB, **changed}, CALM)) == ([problem] if problem else [])


def test_a_ledger_that_repeats_is_a_problem_also_when_both_do() -> None:
    ledger = [{**ROW, "repeated": 1}]
    assert len(list(problems_of({**JOB, "ledger": ledger}, CALM))) == 2
    assert len(list(problems_of({**JOB, "ledger": ledger}, {**CALM, "ledger": ledger}))) == 1


def saved(folder: Path) -> dict[str, Any]:
    """A job with a checkpoint of two parts, as `p2pnode job` tells of it."""
    tensors = {name: torch.full((4,), float(len(name))) for name in ("model.a", "model.bc")}
    parts = []
    for number, name in enumerate(tensors):
        path = folder / "checkpoints" / "job-1" / f"part-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(checkpoint.pack({name: tensors[name]}, {"step": 9}))
        digest = checkpoint.digest_of(path.read_bytes())
        parts.append({"number": number, "path": str(path), "digest": digest})
    made = {"step": 9, "path": str(folder), "state_hash": state_hash(tensors), "parts": parts}
    return {**JOB, "checkpoints": [made]}


def test_a_checkpoint_that_is_lost_or_changed_is_seen(tmp_path: Path) -> None:
    job = saved(tmp_path)
    (made,) = job["checkpoints"]
    assert list(lost_checkpoints(job)) == []
    other = {**made, "state_hash": "sha256:other"}
    (problem,) = lost_checkpoints({**job, "checkpoints": [other]})
    assert problem.endswith("is not sha256:other")
    path = Path(made["parts"][1]["path"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert any("is not what was written" in problem for problem in lost_checkpoints(job))
    path.unlink()
    assert any("is lost" in problem for problem in lost_checkpoints(job))


def test_a_file_that_no_job_knows_is_seen(tmp_path: Path) -> None:
    job = saved(tmp_path)
    assert stray_files(tmp_path, [job]) == []
    (tmp_path / "checkpoints" / "ballast").touch()  # of the experiment, not of a job
    stray = tmp_path / "checkpoints" / "job-1" / "part-7"
    stray.touch()
    assert stray_files(tmp_path, [job]) == [f"{stray} is in no job's list of checkpoints"]


class Mute:
    """A cluster of which nobody tells anything but that there is a job."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told, self.problems = told, list[str]()

    def ask(self, verb: str, **_: Any) -> Any:
        return self.told.get(verb)


def test_a_job_of_which_nobody_tells_is_a_problem() -> None:
    cases: list[tuple[dict[str, Any], list[str] | None]] = [
        ({"status": {"jobs": [JOB]}}, ["nobody says how job-1 ended"]),
        ({"status": {"jobs": []}}, []),
        ({"status": {"jobs": [JOB]}, "job": JOB}, None),
    ]
    for told, problems in cases:
        crew: Any = Mute(told)
        Jobs(crew).finish(1.0)
        nothing = ["there was no job, so nothing was compared"]
        assert crew.problems == ([] if problems is None else problems + nothing)


def test_the_figures_of_a_row() -> None:
    made = [{"stall_seconds": stall_s, "steps_repeated": 2} for stall_s in (None, 0.5, 0.1, 3.0)]
    assert figures([{**JOB, "generations": made}]) == ["4", "8", "0.50, 3.00, 3.00 s"]
    assert figures([{**JOB, "generations": made[:1]}]) == ["1", "2", "none"]


def ring(*children: str, generation: int = 1) -> Ring:
    made = Ring()
    greet(made, *children, generation=generation)
    return made


def greet(made: Ring, *children: str, generation: int) -> None:
    for rank, child in enumerate(children):
        made.living.setdefault(child, History())
        made.hello("job", generation, rank, child, ())


def test_a_step_is_made_of_all_shards_once() -> None:
    made = ring("a", "b")
    made.give("job", 1, 0, 0, 1, (0, 6))
    assert made.complete("job", 1, 0) is None
    with pytest.raises(Violation, match="is made of the shards"):
        made.give("job", 1, 1, 0, 1, (5, 12))


def test_no_round_begins_in_an_older_generation_after_a_newer_one_has_made_one() -> None:
    made = ring("a")
    greet(made, "b", generation=2)
    made.give("job", 2, 0, 0, 1, (0, 12))
    with pytest.raises(Violation, match="after generation 2 has made one"):
        made.give("job", 1, 0, 0, 1, (0, 12))


def test_a_lost_or_repeated_step_is_seen() -> None:
    made = ring("a")
    made.living["a"].append(0)
    made.check("job", "a")
    made.living["a"].append(0)
    with pytest.raises(Violation, match="lost or repeated"):
        made.check("job", "a")
    made.living["a"].append(5)
    with pytest.raises(Violation, match="lost or repeated"):
        made.check("job", "a")
