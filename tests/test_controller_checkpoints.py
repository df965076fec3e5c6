"""When a checkpoint is agreed, which are kept, and how a job without trainers goes back to one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from p2p.control.checkpoints import HOLDERS_S
from p2p.control.controller import plan
from p2p.replicated.apply import apply
from p2p.replicated.state import State
from p2p.reports import TrainerReport
from tests.peer_fakes import (
    applied,
    entered,
    generation,
    mark,
    observed,
    report,
    running,
    spec,
    trainer,
)
from tools.sim.trainers import agreed_checkpoint, checkpoint

Said = Mapping[str, Any]


def parts_of(step: int, *numbers: int, count: int = 3) -> dict[str, Any]:
    """One trainer of three says that it wrote these."""
    told = checkpoint(step, 0, count, writers=count)
    return {**told, "parts": [checkpoint(step, n, count)["parts"][0] for n in numbers]}


def planned(state: State, reports: Mapping[str, TrainerReport], **fields: Any) -> list[Said]:
    return plan(state, observed(*(report(p, told) for p, told in reports.items()), **fields))


def three(*a: Said, b: tuple[Said, ...] = (), c: tuple[Said, ...] = ()) -> dict[str, TrainerReport]:
    said = {"a": a, "b": b, "c": c}
    return {peer: trainer(peer, checkpoints=told) for peer, told in said.items()}


def test_a_checkpoint_is_agreed_when_all_that_write_it_have_said_so() -> None:
    state = running("a", "b", "c")
    a, b, c = parts_of(10, 0, 1), parts_of(10, 1, 2), parts_of(10, 2, 0)
    assert planned(state, three(a)) == []
    assert planned(state, three(a, b=(b,))) == [], "all parts are there, but c still writes"
    (agreed,) = planned(state, three(a, b=(b,), c=(c,)))
    state = applied(state, agreed)
    (made,) = state.jobs["job-1"].checkpoints
    assert made.holders == {0: ("a", "c"), 1: ("a", "b"), 2: ("b", "c")}
    assert planned(state, three(a, b=(b,), c=(c,))) == []
    assert state.events[-1].text == "run: checkpoint of step 10 in 6 files on 3 peers"


@pytest.mark.parametrize("how", ["failed", "died", "came back"])
def test_who_cannot_write_is_not_waited_for(how: str) -> None:
    seen = three(parts_of(10, 0, 1), b=(parts_of(10, 1, 2),))
    failed = {"step": 10, "error": "disk full"}
    if how == "failed":
        seen["c"] = replace(seen["c"], checkpoint_failed=failed)
    elif how == "died":
        del seen["c"]
    else:
        seen["c"] = replace(seen["c"], child="another")
    said = [told for told in planned(running("a", "b", "c"), seen) if "checkpoint" in told]
    assert [part["peer"] for part in said[0]["checkpoint"]["parts"]] == ["a", "a", "b", "b"]


def test_parts_of_other_bytes_are_not_put_together() -> None:
    other = {**parts_of(10, 1, 2), "state_hash": "sha256:other"}
    seen = three(parts_of(10, 0, 1), b=(other,))
    del seen["c"]
    assert [told for told in planned(running("a", "b", "c"), seen) if "checkpoint" in told] == []


def test_the_newest_are_kept() -> None:
    state = running("a")
    steps = (10, 20, 30, 40)
    state = applied(state, *(agreed_checkpoint("a", step) for step in steps))
    assert [made.step for made in state.jobs["job-1"].checkpoints] == [20, 30, 40]
    seen = {"a": trainer("a", checkpoints=tuple(checkpoint(step) for step in steps))}
    assert planned(state, seen) == [], "what was let go does not come back"


# -- back to one ---------------------------------------------------------------------------------


def lost() -> State:
    """Two trainers had come to step 50, with checkpoints of step 20 by a, and of 40 in parts."""
    state = applied(running("a", "b", "c"), mark(1, 50), agreed_checkpoint("a", 20))
    whole = three(parts_of(40, 0, 1), b=(parts_of(40, 1, 2),), c=(parts_of(40, 2, 0),))
    return applied(state, *planned(state, whole))


def anew(*peers: str) -> dict[str, TrainerReport]:
    return {peer: trainer(peer, child=f"{peer}-2") for peer in peers}


def test_when_all_are_lost_the_newest_checkpoint_within_reach_is_told() -> None:
    (formed,) = planned(lost(), anew("a", "b", "c"))
    assert formed["type"] == "job.generation"
    assert formed["reason"].endswith("every trainer was lost: back to the checkpoint of step 40")
    (formed,) = planned(lost(), anew("a", "b", "c"), reached={"job-1": 57, "job-2": 99})
    assert formed["reached"] == 57, "how far they had come, which none of the new ones knows"
    alive = {**anew("b", "c"), "a": trainer("a")}
    (formed,) = planned(lost(), alive)
    assert "back" not in formed["reason"], "a still has the newest state"


def test_the_job_waits_for_who_has_the_rest_and_then_takes_an_older_one() -> None:
    state = lost()
    seen = anew("a", "b", "c")
    for peer in ("b", "c"):
        seen[peer] = replace(seen[peer], phase="starting")
    since = {"ready_s": {"a-2": 100.0 - HOLDERS_S + 1}}
    (waits,) = planned(state, seen, **since)
    assert waits["reason"] == (
        "waits for one of name-b, name-c, where the rest of the checkpoint of step 40 is"
    )
    state = applied(state, waits)
    assert planned(state, seen, **since) == [], "that was said"
    (formed,) = planned(state, seen, ready_s={"a-2": 100.0 - HOLDERS_S})
    assert formed["reason"].endswith("back to the checkpoint of step 20")
    state = applied(state, formed, entered(2, 20))
    assert [made.step for made in state.jobs["job-1"].checkpoints] == [20]
    assert state.events[-1].text.endswith("back from step 50 to the checkpoint of step 20")


def test_nobody_waits_for_a_peer_that_was_removed() -> None:
    state = lost()
    state = applied(state, *({"type": "member.remove", "peer": peer} for peer in ("b", "c")))
    formed = planned(state, anew("a"))[0]
    assert formed["reason"].endswith("every trainer was lost: back to the checkpoint of step 20")


def test_a_checkpoint_that_was_changed_pauses_the_job_with_the_reason() -> None:
    state = applied(lost(), generation(2, "a", "b", "c"))
    told = {"generation": 2, "step": 40, "error": "/data/40 is not what was written"}
    bad = {"a": [0], "b": [], "c": [0]}
    seen = {peer: trainer(peer, unusable={**told, "bad": bad[peer]}) for peer in "abc"}
    sound = {"c": trainer("c", unusable={**told, "bad": []})}
    only_a = applied(state, *planned(state, {**seen, **sound}))
    assert only_a.jobs["job-1"].checkpoints[-1].holders[0] == ("c",), "there is another copy"
    assert only_a.jobs["job-1"].state == "recovering"
    (command,) = planned(state, seen)
    state = applied(state, command)
    job = state.jobs["job-1"]
    assert (job.state, [made.step for made in job.checkpoints]) == ("paused", [20])
    assert job.reason == (
        "/data/40 is not what was written; `p2pnode resume job-1` goes on from step 20"
    )
    assert planned(state, seen) == []
    state = applied(state, {"type": "job.resume", "job": "job-1"})
    assert planned(state, seen)[0]["type"] == "job.generation"


# -- asked for ---------------------------------------------------------------------------------


ASK = {"type": "job.checkpoint_ask", "job": "job-1"}


def test_who_asks_where_nothing_has_happened_since_the_last_one_is_answered() -> None:
    pause = {"type": "job.pause", "job": "job-1"}
    state = applied(running("a"), agreed_checkpoint("a", 10), pause, ASK)
    before = checkpoint(10)  # was begun before anybody asked
    assert planned(state, {"a": trainer("a", checkpoints=(before,))}) == []
    seen = {"a": trainer("a", checkpoints=(before, {**checkpoint(10), "asks": 1}))}
    (answered,) = planned(state, seen)
    assert answered["type"] == "job.checkpoint_answered"
    state = applied(state, answered)
    assert not state.jobs["job-1"].asked
    assert planned(state, seen) == []
    assert "error" in apply(state, {"at_s": 1.0, **answered})[1]
    assert planned(applied(state, ASK), seen) == [], "asked again: that is another wish"


@pytest.mark.parametrize(("asks", "open_"), [(0, True), (1, True), (2, False)])
def test_a_checkpoint_answers_what_was_asked_before_it_was_begun(asks: int, open_: bool) -> None:
    state = applied(running("a"), ASK, ASK)
    seen = {"a": trainer("a", checkpoints=({**checkpoint(10), "asks": asks},))}
    state = applied(state, *planned(state, seen))
    assert state.jobs["job-1"].checkpoints
    assert state.jobs["job-1"].asked is open_


# -- another job from one ------------------------------------------------------------------------


def restored(state: State, step: int = 40) -> State:
    wish = {"job": "job-1", "step": step}
    submit = {"type": "job.submit", "name": "again", "spec": spec(), "restored": wish}
    state = applied(state, {"type": "job.cancel", "job": "job-1"}, submit)
    assign = {"type": "job.assign", "job": "job-2", "reason": "starts"}
    return applied(state, {**assign, "peers": ["a", "b", "c"]})


def other(*peers: str) -> dict[str, TrainerReport]:
    return {peer: trainer(peer, job="job-2") for peer in peers}


def test_a_restored_job_begins_from_the_checkpoint_of_another() -> None:
    state = restored(lost())
    (formed,) = planned(state, other("a", "b", "c"))
    assert formed["reason"] == "the job starts from the checkpoint of step 40 of job-1"
    assert state.events[-1].kind != "job-failed"


def test_a_restored_job_never_begins_anywhere_else() -> None:
    state = restored(lost())
    seen = other("a")
    seen["b"] = seen["c"] = replace(seen["a"], phase="starting")
    (waits,) = planned(state, seen, ready_s={"child-a": -1e9})
    assert waits["reason"].startswith("waits for one of name-b, name-c")
    state = applied(state, *({"type": "member.remove", "peer": peer} for peer in ("b", "c")))
    assert planned(state, other("a"))[0]["reason"] == (
        "the checkpoint of step 40 of job-1 is gone with the peers that had it: "
        "`p2pnode cancel job-2`"
    )


def test_a_restored_job_fails_when_its_checkpoint_was_changed() -> None:
    state = applied(restored(lost()), generation(1, "a", "b", "c", job="job-2"))
    told = {"generation": 1, "step": 40, "error": "/data/40 is not what was written", "bad": []}
    seen = {peer: trainer(peer, job="job-2", unusable=told) for peer in "abc"}
    state = applied(state, *planned(state, seen))
    job = state.jobs["job-2"]
    assert (job.state, job.reason) == ("failed", "/data/40 is not what was written")
    assert state.jobs["job-1"].checkpoints, "another job's log of it is another matter"


def test_a_checkpoint_that_is_gone_cannot_be_restored() -> None:
    wish = {"job": "job-1", "step": 30}
    submit = {"type": "job.submit", "name": "again", "spec": spec(), "restored": wish}
    state, answer = apply(lost(), {"at_s": 1.0, **submit})
    assert answer["error"] == "there is no checkpoint of step 30 of job-1 any more"
    assert list(state.jobs) == ["job-1"]
