"""What a trainer tells of itself: what it is doing, how long a shard takes it, how it ended."""

from pathlib import Path

import pytest

from p2p.endings import in_words, last_line
from p2p.reports import check_trainer_message
from p2p.training import activity
from p2p.training.activity import Activity
from p2p.training.pace import MEASURED_S, STEPS_MIN, PaceMeter
from p2p.wire.envelope import Malformed


def test_a_pulse_says_since_when_and_what_is_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(activity.time, "monotonic", lambda: now_s)
    made = Activity()
    for took_s in (1.0, 2.0, 30.0):
        made.begin("gradients", 7)
        now_s += took_s
        made.begin("exchange", 7)
        now_s += 50.0
    made.begin("gradients", 8)
    now_s += 4.0
    told = made.pulse()
    check_trainer_message("pulse", told)
    assert (told["doing"], told["step"], told["for_s"]) == ("gradients", 8, 4.0)
    assert told["usual_s"] == 2.0
    made.begin("evaluation", 8)
    assert made.pulse()["usual_s"] is None, "never done before"


def test_pace_is_a_mean_over_long_enough() -> None:
    meter = PaceMeter()
    meter.step(MEASURED_S, 4, MEASURED_S)
    assert meter.told == [], f"{STEPS_MIN} steps at least"
    meter.step(MEASURED_S, 4, 2 * MEASURED_S)
    assert meter.told == [[MEASURED_S / 4, 1.5 * MEASURED_S]]
    for _ in range(3 * STEPS_MIN):
        meter.step(MEASURED_S, 2, MEASURED_S)
    assert meter.told == [[MEASURED_S / 2, MEASURED_S]] * 2


def test_without_shards_there_is_no_pace() -> None:
    meter = PaceMeter()
    for _ in range(10):
        meter.step(0.0, 0, MEASURED_S)
    assert meter.told == []


@pytest.mark.parametrize("pace", [3, [[1.0]], [[1.0, -1.0]], [["1", 1.0]], [[1.0, float("nan")]]])
def test_a_pace_that_is_none_is_refused(pace: object) -> None:
    told = {"generation": 1, "step": 1, "samples_per_second": 1.0, "pace": pace}
    with pytest.raises(Malformed):
        check_trainer_message("progress", told)


def test_how_a_process_ended(tmp_path: Path) -> None:
    assert in_words(3, None) == "it ended with code 3"
    assert in_words(None, 11) == "it was killed by signal 11"
    assert in_words(None, 9) == "it was killed by signal 9 (out of memory?)"
    log = tmp_path / "log"
    log.write_text("")
    assert last_line(log) == "it said nothing"
    log.write_text("x" * 10_000 + "\nImportError: no torch\n\n")
    assert last_line(log) == "ImportError: no torch"
