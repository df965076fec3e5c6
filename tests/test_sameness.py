"""tools.sameness: what it trains on, and that other bits, or a thing left out, do not pass."""

from pathlib import Path
from typing import Any, cast

import pytest

from p2p.tasks.builtin import check_mnist
from tools.chaos.crew import Crew
from tools.sameness.data import TEXT, enlarged_digits
from tools.sameness.script import Run

ROW = {"epoch": 1, "samples": 60, "distinct": 60, "repeated": 0, "missing": 0}
CALM: dict[str, Any] = {
    "id": "job-1",
    "name": "digits-2",
    "state": "finished",
    "reason": "",
    "generations": [{}],
    "state_hash": "sha256:a",
    "ledger": [ROW],
}


class FakeCrew:
    """Asked once, it answers."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.problems: list[str] = []
        self.answer = answer

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        return self.answer

    def until(self, is_so: Any, what: str, within_s: float) -> bool:
        return bool(is_so())


def ended(**changed: Any) -> tuple[Run, FakeCrew]:
    crew = FakeCrew({**CALM, **changed})
    run = Run(cast(Crew, crew), "digits", "job-1", 2)
    run.end()
    return run, crew


def test_digits_enlarged_are_data_for_mnist(tmp_path: Path) -> None:
    check_mnist(enlarged_digits(tmp_path / "mnist"))
    assert TEXT.stat().st_size > 50_000


@pytest.mark.parametrize(
    ("changed", "last", "problems"),
    [
        ({}, "yes", 0),
        ({"state_hash": "sha256:b"}, "NO", 1),
        ({"ledger": [{**ROW, "repeated": 1}]}, "NO", 2),
        ({"state": "failed", "reason": "why"}, "NO", 1),
    ],
)
def test_a_row_says_whether_all_is_the_same(
    changed: dict[str, Any], last: str, problems: int
) -> None:
    run, crew = ended(**changed)
    row = run.row(CALM)
    assert (row[:2], row[-1], len(crew.problems)) == (["digits", "2"], last, problems)
    assert (row[4] == "exact") == ("ledger" not in changed)


def test_a_job_that_is_over_too_early_is_a_problem() -> None:
    run, crew = ended()
    assert not run.until(lambda told: told["state"] == "paused", "it is paused")
    assert crew.problems == ["digits on 2 peers finished before it is paused"]
