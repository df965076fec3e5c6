"""tools.storm: what it compares, and that the simulator's ring sees what must not be."""

from typing import Any

import pytest

from tools.sim.ring import History, Ring
from tools.sim.violation import Violation
from tools.storm.verdict import problems_of

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
