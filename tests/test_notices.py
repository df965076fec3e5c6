"""What trainers say people should know, and what `auto` asks for: from a mark into the log."""

from typing import Any

import pytest

from p2p.control.jobs import plan_job
from p2p.replicated.apply import apply
from p2p.replicated.state import Notice, State
from p2p.reports import Observed, check_trainer_message
from p2p.view import job_detail
from p2p.wire.envelope import Malformed
from tests.peer_fakes import applied, entered, generation, report, running, trainer
from tools.sim.trainers import standing

FAR = "its gradients are far from all others', step after step"
WISH = {"strategy": "ring", "codec": "int8", "reason": "the exchange takes 76% of a step"}


def commands(state: State, number: int, step: int, **said: Any) -> list[dict[str, Any]]:
    """What the leader proposes when the trainers of a and b mark this step and say this."""
    told = {**standing(number, step), **said}
    entered = {"generation": number, "start_step": 1, "stall_s": None, "steps_repeated": 0}
    reports = {peer: report(peer, trainer(peer, mark=told, entered=entered)) for peer in ("a", "b")}
    observed = Observed(100.0, reports, dict.fromkeys(reports, 100.0))
    job = state.jobs["job-1"]
    return list(plan_job(job, state.members, frozenset(reports), observed))


def after(state: State, proposed: list[dict[str, Any]]) -> State:
    for command in proposed:
        state, _ = apply(state, {**command, "at_s": 1.0})
    return state


def auto(state: State) -> State:
    method = {"strategy": "ring", "codec": "int32", "options": {}, "auto": True}
    told = {"type": "job.set", "job": "job-1", "method": method, "after_revision": 0}
    set_to = {**told, "reason": "strategy set to auto"}
    return applied(state, set_to, generation(2, "a", "b"), entered(2))


def test_a_notice_names_the_peer_and_is_one_event_as_long_as_it_holds() -> None:
    state = running("a", "b")
    before = len(state.events)
    for step in (3, 4, 5):
        notices = [{"text": FAR, "rank": 1}, {"text": "too few", "rank": None}]
        state = after(state, commands(state, 1, step, notices=notices))
    told = [(event.text, event.severity, event.peer) for event in state.events[before:]]
    assert [each for each in told if "notice" not in each] == [
        (f"run: name-b: {FAR}", "warning", "b"),
        ("run: too few", "warning", None),
    ]
    assert state.jobs["job-1"].notices == (Notice(f"name-b: {FAR}", "b"), Notice("too few"))
    shown = job_detail(state.jobs["job-1"], {})["notices"]
    assert shown[0] == {"text": f"name-b: {FAR}", "peer": "b"}
    state = after(state, commands(state, 1, 6))
    assert state.jobs["job-1"].notices == ()


def test_a_rank_that_is_none_is_nobody() -> None:
    state = running("a", "b")
    state = after(state, commands(state, 1, 3, notices=[{"text": FAR, "rank": 7}]))
    assert state.jobs["job-1"].notices == ()


def test_auto_sets_what_the_trainers_wish_once() -> None:
    state = auto(running("a", "b"))
    (marked, wished) = commands(state, 2, 3, wish=WISH)
    assert (marked["type"], wished["type"]) == ("job.mark", "job.set")
    state = after(state, [marked, wished])
    method = state.jobs["job-1"].method
    assert (method.strategy, method.codec, method.auto) == ("ring", "int8", True)
    assert state.events[-1].text == (
        "run has ring with int8 chosen by auto: the exchange takes 76% of a step"
    )
    later = commands(state, 2, 4, wish=WISH)
    assert [command["type"] for command in later] == ["job.mark", "job.generation"]
    assert "chosen by auto" in later[1]["reason"]


@pytest.mark.parametrize(
    "wish", [{**WISH, "strategy": "none"}, {**WISH, "codec": "int3"}, {**WISH, "codec": "int8:9"}]
)
def test_what_cannot_be_is_not_set(wish: dict[str, str]) -> None:
    state = auto(running("a", "b"))
    assert [command["type"] for command in commands(state, 2, 3, wish=wish)] == ["job.mark"]


def test_without_auto_nobody_is_asked() -> None:
    state = running("a", "b")
    assert [command["type"] for command in commands(state, 1, 3, wish=WISH)] == ["job.mark"]


@pytest.mark.parametrize(
    "said",
    [
        {"notices": "x"},
        {"notices": [{"text": 1, "rank": None}]},
        {"notices": [{"text": "x", "rank": "a"}]},
        {"notices": [3]},
        {"wish": []},
        {"wish": {"strategy": "ring", "codec": 1, "reason": ""}},
    ],
)
def test_malformed_words_of_a_trainer_are_refused(said: dict[str, Any]) -> None:
    check_trainer_message("mark", {**standing(1, 3), "notices": [], "wish": WISH})
    with pytest.raises(Malformed):
        check_trainer_message("mark", {**standing(1, 3), **said})
