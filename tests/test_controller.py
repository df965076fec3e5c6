"""The controller: (state, observed) -> commands with reasons: members, facts, failures."""

from dataclasses import replace
from typing import Any

import pytest

from p2p.control.controller import GRACE_S, SILENT_S, plan
from p2p.control.marks import odd_one_out
from p2p.replicated.apply import apply
from p2p.replicated.state import State
from p2p.reports import Observed, TrainerReport
from tests.peer_fakes import (
    applied,
    described,
    founded,
    generation,
    mark,
    observed,
    report,
    running,
    trainer,
    with_job,
)
from tools.sim.trainers import STEPS, checkpoint, standing


def planned(state: State, seen: Observed, kind: str = "") -> list[dict[str, Any]]:
    """What is planned (of one kind), after checking that all of it is taken."""
    commands = plan(state, seen)
    applied(state, *commands)
    return [command for command in commands if not kind or command["type"] == kind]


def only(state: State, seen: Observed, kind: str) -> dict[str, Any]:
    found = planned(state, seen, kind)
    assert len(found) == 1, plan(state, seen)
    return found[0]


def peers_of(command: dict[str, Any]) -> list[str]:
    return [seat["peer"] for seat in command["seats"]]


# -- members -------------------------------------------------------------------------------------


def test_nothing_to_do_is_nothing_planned() -> None:
    assert planned(founded("a", "b"), observed(report("a"), report("b"))) == []


@pytest.mark.parametrize(
    ("silent_s", "down_s", "reason"),
    [
        (0.0, None, None),
        (SILENT_S - 0.1, None, None),
        (SILENT_S, None, "not heard of for 2.0 s"),
        (0.0, GRACE_S / 2, None),
        (0.0, GRACE_S, "its connection broke"),
    ],
)
def test_who_is_dead(silent_s: float, down_s: float | None, reason: str | None) -> None:
    seen = observed(report("a"), report("b"))
    down = {} if down_s is None else {"b": seen.now_s - down_s}
    heard = {"a": seen.now_s, "b": seen.now_s - silent_s}
    dead = planned(founded("a", "b"), replace(seen, heard_s=heard, down_since_s=down))
    assert [(told["peer"], told["reason"]) for told in dead] == ([("b", reason)] if reason else [])


def test_a_new_leader_gives_everyone_time_to_report() -> None:
    """Whom it never heard it neither calls dead nor counts out of a running job."""
    assert planned(running("a", "b", "c"), observed(report("a", trainer("a")))) == []


def test_a_dead_peer_that_reports_is_alive_again_unless_it_leaves() -> None:
    dead = {"type": "member.dead", "peer": "b", "incarnation": "1", "reason": "r"}
    state = applied(founded("a", "b"), dead)
    assert only(state, observed(report("a"), report("b")), "member.alive")["peer"] == "b"
    assert planned(state, observed(report("a"), report("b", leaving=True))) == []


def test_a_peer_that_came_back_as_another_process_joins_anew() -> None:
    seen = observed(report("a"), report("b", incarnation="2"))
    command = only(founded("a", "b"), seen, "member.join")
    assert command["member"]["incarnation"] == "2"


# -- facts ---------------------------------------------------------------------------------------


def facts(number: int, step: int, stall_s: float | None = None) -> dict[str, Any]:
    return {"generation": number, "start_step": step, "stall_s": stall_s, "steps_repeated": step}


def test_a_generation_is_entered_when_all_have() -> None:
    state = applied(with_job(founded("a", "b"), "a", "b"), generation(1, "a", "b"))
    first = report("a", trainer("a", entered=facts(1, 4, 0.5)))
    assert planned(state, observed(first, report("b", trainer("b")))) == []
    old = report("b", trainer("b", entered=facts(0, 9)))
    assert planned(state, observed(first, old)) == []
    command = only(state, observed(first, report("b", trainer("b", entered=facts(1, 5)))), "")
    assert (command["start_step"], command["stall_s"], command["steps_repeated"]) == (5, 0.5, 5)


def said(
    peer: str, kind: str, number: int, step: int, digest: str = "sha256:same"
) -> TrainerReport:
    kept: dict[str, Any] = {kind: standing(number, step, digest)}
    return trainer(peer, entered=facts(1, 0), **kept)


def test_a_mark_needs_the_same_step_of_all() -> None:
    state = running("a", "b")
    a = report("a", said("a", "mark", 1, 7))
    assert planned(state, observed(a, report("b", said("b", "mark", 1, 6)))) == []
    assert planned(state, observed(a, report("b", said("b", "mark", 0, 7)))) == []
    seen = observed(a, report("b", said("b", "mark", 1, 7)))
    assert only(state, seen, "job.mark")["mark"]["step"] == 7
    assert planned(applied(state, mark(1, 7)), seen) == []


def unequal(digests: dict[str, str], differs: str | None = "0.weight") -> Observed:
    """Marks of the same step; the last trainer has found out what differs."""
    told = {p: said(p, "mark", 1, 7, digest) for p, digest in digests.items()}
    last = max(told)
    if differs:
        told[last] = replace(told[last], mark={**told[last].mark, "differs": differs})
    return observed(*(report(p, each) for p, each in told.items()))


def test_the_odd_hash_is_named_and_set_aside() -> None:
    state, digests = running("a", "b", "c"), {"a": "x", "b": "y", "c": "x"}
    assert planned(state, unequal(digests, None)) == [], "they are still finding out what differs"
    seen = unequal(digests)
    command = only(state, seen, "job.assign")
    sentence = "name-b has other weights than the rest after step 7: 0.weight differs first"
    assert (command["peers"], command["excluded"]) == (["a", "c"], {"b": sentence})
    state = applied(state, *plan(state, seen))
    command = only(state, seen, "job.generation")
    assert peers_of(command) == ["a", "c"]


def test_a_peer_set_aside_below_the_minimum_stops_the_job_s_steps() -> None:
    seen = unequal({"a": "x", "b": "y", "c": "x"})
    state = running("a", "b", "c", peers_min=3)
    for _ in range(2):
        state = applied(state, *plan(state, seen))
    job = state.jobs["job-1"]
    why = "name-b has other weights than the rest after step 7: 0.weight differs first"
    assert job.reason == f"waits for 3 ready peers, 2 now: `p2pnode add 1` ({why})"
    assert job.generations[-1].closed, "or both would train on without any marks"


@pytest.mark.parametrize(
    ("hashes", "odd"),
    [
        ("xxx", None),
        ("x", None),
        ("xyx", "b"),
        ("yxx", "a"),
        ("xy", None),
        ("xyz", None),
        ("xxyy", None),
    ],
)
def test_odd_one_out(hashes: str, odd: str | None) -> None:
    assert odd_one_out(dict(zip("abcd", hashes, strict=False))) == odd


@pytest.mark.parametrize("digests", ["xy", "xyz"])
def test_without_a_majority_of_equal_hashes_the_job_ends_and_says_why(digests: str) -> None:
    seen = unequal(dict(zip("abc", digests, strict=False)))
    reason = only(running(*"abc"[: len(digests)]), seen, "job.fail")["reason"]
    assert "the trainers have different weights after step 7: 0.weight differs first" in reason
    assert "--allow-nondeterminism" in reason


def test_the_end_comes_after_equal_marks_and_the_checkpoint() -> None:
    def seen(checkpoints: tuple[Any, ...], b_step: int = STEPS) -> Observed:
        a = replace(said("a", "finished", 1, STEPS), checkpoints=checkpoints)
        return observed(report("a", a), report("b", said("b", "finished", 1, b_step)))

    state = running("a", "b")
    assert planned(state, seen((), b_step=STEPS - 1)) == []
    assert [told["type"] for told in planned(state, seen(()))] == ["job.mark"]
    state = applied(state, mark(1, STEPS))
    assert planned(state, seen(())) == [], "the final checkpoint is not written yet"
    saved = seen((checkpoint(STEPS),))
    assert [told["type"] for told in planned(state, saved)] == ["job.checkpoint"]
    state = applied(state, *plan(state, saved))
    assert [told["type"] for told in planned(state, saved)] == ["job.finish"]
    state = applied(state, *plan(state, saved))
    assert state.jobs["job-1"].state == "finished"
    assert planned(state, saved) == []


def test_a_job_paused_at_its_end_is_not_finished_again_and_again() -> None:
    a = replace(said("a", "finished", 1, STEPS), checkpoints=(checkpoint(STEPS),))
    seen = observed(report("a", a))
    state = applied(running("a"), {"type": "job.pause", "job": "job-1"})
    for _ in range(3):
        state = applied(state, *plan(state, seen))
    assert state.jobs["job-1"].state == "paused"
    assert planned(state, seen) == []
    state = applied(state, {"type": "job.resume", "job": "job-1"})
    state = applied(state, *plan(state, seen))
    assert state.jobs["job-1"].state == "finished"


def test_a_checkpoint_that_failed_is_told_once_per_step() -> None:
    told = [{"step": step, "error": "disk full"} for step in (20, 10)]
    seen = observed(
        report("a", trainer("a", checkpoint_failed=told[0])),
        report("b", trainer("b", checkpoint_failed=told[1])),
    )
    state = running("a", "b")
    for _ in range(4):
        for command in plan(state, seen):
            state, _answer = apply(state, {"at_s": 1.0, **command})
    assert plan(state, seen) == []
    assert [event.kind for event in state.events].count("checkpoint-failed") >= 1


# -- failures ------------------------------------------------------------------------------------


def failing(peer: str, *, user_error: bool) -> TrainerReport:
    failed = {"error": "MemoryError", "user_error": user_error}
    return trainer(peer, phase="failed", failed=failed)


def test_the_user_s_error_fails_the_job() -> None:
    seen = observed(report("a", trainer("a")), report("b", failing("b", user_error=True)))
    assert only(running("a", "b"), seen, "job.fail")["reason"] == "MemoryError"


def test_the_machine_s_error_sets_the_peer_aside_and_the_last_one_fails_the_job() -> None:
    seen = observed(*(report(peer, failing(peer, user_error=False)) for peer in "ab"))
    state = running("a", "b")
    for _ in range(2):
        state = applied(state, only(state, seen, "job.assign"))
    reason = only(state, seen, "job.fail")["reason"]
    assert reason.startswith("no peer is left: name-a is set aside: MemoryError")


def test_a_peer_without_slots_is_no_peer_left() -> None:
    state = applied(running("a"), {"type": "member.join", "member": described("b", slots=0)})
    seen = observed(report("a", failing("a", user_error=False)), report("b", slots=0))
    state = applied(state, *plan(state, seen))
    assert "no peer is left" in only(state, seen, "job.fail")["reason"]


def test_who_is_set_aside_is_not_placed_again_in_the_same_breath() -> None:
    state = applied(running("a", "b"), {"type": "member.join", "member": described("c")})
    seen = observed(
        report("a", trainer("a")), report("b", failing("b", user_error=False)), report("c")
    )
    assert only(state, seen, "job.assign")["peers"] == ["a"]
    state = applied(state, *plan(state, seen))
    assert only(state, seen, "job.assign")["peers"] == ["a", "c"]
