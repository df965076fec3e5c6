"""The controller: (state, observed) -> commands with reasons, and that it always settles."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from p2p.control.awaited import AWAITED_S, FENCED_S
from p2p.control.controller import GRACE_S, SILENT_S, plan
from p2p.control.generations import WARM_UP_S
from p2p.control.marks import odd_one_out
from p2p.replicated.apply import apply
from p2p.replicated.state import State
from p2p.reports import Observed, PeerReport, TrainerReport
from tests.peer_fakes import (
    FakePeer,
    PlannedCluster,
    applied,
    described,
    entered,
    founded,
    generation,
    mark,
    observed,
    report,
    running,
    spec,
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


# -- generations ---------------------------------------------------------------------------------


def test_the_first_generation_waits_for_all_that_warm_up() -> None:
    state = with_job(founded("a", "b"), "a", "b")
    warming = trainer("b", phase="starting", ready={})
    assert planned(state, observed(report("a", trainer("a")), report("b", warming))) == []
    seen = observed(report("a", trainer("a")), report("b", warming))
    (child,) = (told.child for told in seen.reports["a"].trainers.values())
    late = replace(seen, ready_s={child: seen.now_s - WARM_UP_S})
    assert peers_of(only(state, late, "job.generation")) == ["a"]
    seen = observed(report("a", trainer("a")), report("b", trainer("b")))
    command = only(state, seen, "job.generation")
    assert (command["number"], command["reason"]) == (1, "the job starts")
    assert [(s["peer"], s["first_shard"], s["last_shard"]) for s in command["seats"]] == [
        ("a", 0, 6),
        ("b", 6, 12),
    ]


@pytest.mark.parametrize(("shards", "count"), [(12, 5), (3, 3), (7, 2), (1, 1)])
def test_shards_are_dealt_out_whole(shards: int, count: int) -> None:
    names = [chr(ord("a") + number) for number in range(count)]
    state = with_job(founded(*names), *names, shards=shards)
    seen = observed(*(report(name, trainer(name)) for name in names))
    seats = only(state, seen, "job.generation")["seats"]
    dealt = [shard for s in seats for shard in range(s["first_shard"], s["last_shard"])]
    assert dealt == list(range(shards))
    sizes = [s["last_shard"] - s["first_shard"] for s in seats]
    assert max(sizes) - min(sizes) <= 1


def gone(seen: Observed, *peers: str) -> Observed:
    return replace(seen, down_since_s=dict.fromkeys(peers, seen.now_s - 1.0))


def test_a_lost_peer_means_a_generation_without_it_at_once() -> None:
    seen = gone(observed(*(report(peer, trainer(peer)) for peer in "abc")), "b")
    commands = planned(running("a", "b", "c"), seen)
    assert [told["type"] for told in commands] == ["member.dead", "job.generation", "job.assign"]
    assert peers_of(commands[1]) == ["a", "c"]
    assert commands[1]["reason"] == "name-b was lost"


def test_lost_and_joined_at_once_is_one_generation() -> None:
    state = applied(running("a", "b"), {"type": "member.join", "member": described("c")})
    assign = {"type": "job.assign", "job": "job-1", "peers": ["a", "b", "c"], "reason": ""}
    seen = gone(observed(*(report(peer, trainer(peer)) for peer in "abc")), "b")
    command = only(applied(state, assign), seen, "job.generation")
    assert peers_of(command) == ["a", "c"]
    assert command["reason"] == "name-b was lost; name-c joined"


def test_a_trainer_that_ended_is_replaced_by_its_successor() -> None:
    starting = trainer("b", child="other", phase="starting", ready={})
    seen = observed(report("a", trainer("a")), report("b", starting))
    command = only(running("a", "b"), seen, "job.generation")
    assert (peers_of(command), command["reason"]) == (["a"], "the trainer of name-b ended")
    state = applied(running("a", "b"), command)
    seen = observed(report("a", trainer("a")), report("b", trainer("b", child="other")))
    assert planned(state, seen, "job.generation") == [], "the newest one first makes a step"


def test_who_follows_is_seated_when_it_is_level_or_the_others_cannot_go_on() -> None:
    said = trainer("c").ready
    learning = trainer("c", ready={**said, "learning": True})
    seen = observed(report("a", trainer("a")), report("b", trainer("b")), report("c", learning))
    state = applied(running("a", "b"), {"type": "member.join", "member": described("c")})
    assign = {"type": "job.assign", "job": "job-1", "peers": ["a", "b", "c"], "reason": ""}
    state = applied(state, assign)
    assert planned(state, seen, "job.generation") == []
    assert peers_of(only(state, gone(seen, "b"), "job.generation")) == ["a"]
    both = gone(seen, "a", "b")
    now_s = both.now_s + AWAITED_S
    late = replace(both, now_s=now_s, heard_s={**both.heard_s, "c": now_s})
    assert peers_of(only(state, late, "job.generation")) == ["c"]
    level = trainer("c", ready={**said, "learning": False})
    seen = observed(report("a", trainer("a")), report("b", trainer("b")), report("c", level))
    assert peers_of(only(state, seen, "job.generation")) == ["a", "b", "c"]
    # Who had to enter without is not left out of the next one.
    state = applied(state, generation(2, "a", "b", "c"), entered(2))
    seen = observed(report("a", trainer("a")), report("b", trainer("b")), report("c", learning))
    assert planned(state, seen, "job.generation") == []


def test_one_change_at_a_time_but_a_loss_does_not_wait() -> None:
    state = with_job(founded("a", "b", "c"), "a", "b", "c")
    state = applied(state, generation(1, "a", "b"))
    seen = observed(*(report(peer, trainer(peer)) for peer in "abc"))
    assert planned(state, seen, "job.generation") == []
    assert peers_of(only(state, gone(seen, "b"), "job.generation")) == ["a", "c"]


def test_a_removed_peer_has_no_name_and_no_seat() -> None:
    state = applied(running("a", "b"), {"type": "member.remove", "peer": "b"})
    seen = observed(report("a", trainer("a")), report("b", trainer("b")))
    command = only(state, seen, "job.generation")
    assert (peers_of(command), command["reason"]) == (["a"], "b was lost")


def test_who_alone_has_the_job_s_state_is_waited_for() -> None:
    """The others are not as far: without the wait they would begin at a checkpoint."""
    state = applied(running("a"), {"type": "member.join", "member": described("b")}, mark(1, 7))
    assign = {"type": "job.assign", "job": "job-1", "peers": ["a", "b"], "reason": ""}
    state = applied(state, assign)
    fresh = report("b", trainer("b", child="fresh"))
    seen = observed(fresh, now_s=100.0)

    def after(lost_s: float, here: PeerReport = fresh) -> Observed:
        heard = {"a": seen.now_s - lost_s, "b": seen.now_s}
        down = {"a": seen.now_s - lost_s}
        return replace(observed(here), heard_s=heard, down_since_s=down)

    reason = only(state, after(1.0), "job.wait")["reason"]
    assert reason == "waits up to 10 s for name-a: nobody else was training"
    waiting = applied(state, *plan(state, after(1.0)))
    assert waiting.jobs["job-1"].assigned == ("a", "b")
    assert planned(waiting, after(9.9)) == [], "said once"
    back = observed(report("a", trainer("a")), fresh)
    alive = applied(waiting, *plan(waiting, back))
    assert peers_of(only(alive, back, "job.generation")) == ["a", "b"]
    assert peers_of(only(waiting, after(AWAITED_S), "job.generation")) == ["b"]
    ready = {"endpoints": {"tcp": "x"}, "steps_total": STEPS, "step": 7}
    as_far = report("b", trainer("b", child="fresh", ready=ready))
    assert plan(waiting, after(FENCED_S - 0.1, as_far)) == [], "a lost one may still be stepping"
    assert peers_of(only(state, after(FENCED_S, as_far), "job.generation")) == ["b"]


def test_too_few_peers_wait_and_say_for_what() -> None:
    seen = gone(observed(*(report(peer, trainer(peer)) for peer in "ab")), "b")
    state = running("a", "b", peers_min=2)
    reason = only(state, seen, "job.wait")["reason"]
    assert reason == "waits for 2 ready peers, 1 now: `p2pnode add 1`"
    state = applied(state, *plan(state, seen))
    assert state.jobs["job-1"].state == "recovering"
    assert planned(state, seen) == [], "said once"


def test_a_start_with_too_few_peers_says_so() -> None:
    state = with_job(founded("a"), "a", peers_min=2)
    reason = only(state, observed(report("a", trainer("a"))), "job.wait")["reason"]
    assert reason == "waits for 2 ready peers, 1 now: `p2pnode add 1`"


def test_pause_and_resume_make_a_new_generation() -> None:
    seen = observed(report("a", trainer("a")), report("b", trainer("b")))
    paused = applied(running("a", "b"), {"type": "job.pause", "job": "job-1"})
    assert planned(paused, seen) == []
    resumed = applied(paused, {"type": "job.resume", "job": "job-1"})
    command = only(resumed, seen, "job.generation")
    assert (command["number"], command["reason"]) == (2, "resumed")


def paced(peer: str, number: int, shard_s: float, step_s: float) -> PeerReport:
    pace = [[shard_s, step_s], [shard_s, step_s]]
    told = {"generation": number, "step": 9, "samples_per_second": 1.0, "pace": pace}
    return report(peer, trainer(peer, progress=told))


def test_shards_move_from_the_slow_to_the_fast_with_the_reason() -> None:
    state = running("a", "b")
    seen = observed(paced("a", 1, 0.1, 1.8), paced("b", 1, 0.3, 1.8))
    command = only(state, seen, "job.generation")
    assert [(s["first_shard"], s["last_shard"]) for s in command["seats"]] == [(0, 9), (9, 12)]
    assert command["reason"] == (
        "shards move to the fast: name-a has 9 instead of 6 (100 ms each), "
        "name-b has 3 instead of 6 (300 ms each)"
    )
    after = applied(state, command)
    assert planned(after, seen) == [], "measured in another generation"
    lost = gone(seen, "b")
    assert peers_of(only(after, lost, "job.generation")) == ["a"]


def test_what_is_known_of_speeds_is_kept_when_somebody_joins() -> None:
    state = applied(running("a", "b"), {"type": "member.join", "member": described("c")})
    assign = {"type": "job.assign", "job": "job-1", "peers": ["a", "b", "c"], "reason": ""}
    fast, slow = paced("a", 1, 0.1, 1.8), paced("b", 1, 0.5, 1.8)
    seen = observed(fast, slow, report("c", trainer("c")))
    seats = only(applied(state, assign), seen, "job.generation")["seats"]
    assert [s["last_shard"] - s["first_shard"] for s in seats] == [8, 1, 3]


def test_robust_deals_evenly_whatever_the_speeds() -> None:
    """There each trainer has one voice, whatever its shards are."""
    state = running("a", "b", strategy="robust")
    seen = observed(paced("a", 1, 0.1, 1.8), paced("b", 1, 0.3, 1.8))
    assert planned(state, seen) == []


def test_who_holds_up_all_with_a_single_shard_is_set_aside() -> None:
    state = with_job(founded("a", "b"), "a", "b", shards=3)
    uneven = generation(1, "a", "b", shards=2)
    uneven["seats"][1]["first_shard"], uneven["seats"][1]["last_shard"] = 2, 3
    uneven["seats"][0]["last_shard"] = 2
    state = applied(state, uneven, entered(1))
    seen = observed(paced("a", 1, 0.1, 4.0), paced("b", 1, 4.0, 4.0))
    command = only(state, seen, "job.assign")
    sentence = "name-b is set aside: a single shard takes it 4 s, which holds up all others"
    assert (command["peers"], command["excluded"]) == (["a"], {"b": sentence})


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


# -- does it settle? -----------------------------------------------------------------------------


def started(*peers: str, slots: int = 1, **fields: Any) -> PlannedCluster:
    cluster = PlannedCluster(founded(*peers, slots=slots))
    cluster.command({"type": "job.submit", "name": "run", "spec": spec(**fields)})
    cluster.settle()
    return cluster


def test_a_submitted_job_runs_and_ends() -> None:
    cluster = started("a", "b", "c")
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b", "c"))
    cluster.may_finish = True
    cluster.settle()
    assert cluster.job().state == "finished"
    assert not any(peer.trainers.started for peer in cluster.peers.values()), "all were stopped"


def test_a_killed_peer_comes_back_into_the_job() -> None:
    cluster = started("a", "b", "c")
    del cluster.peers["b"]
    cluster.settle()
    assert cluster.job().members == ("a", "c")
    cluster.peers["b"] = FakePeer(described("b", incarnation="2"))
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b", "c"))


def test_all_peers_lost_at_once_go_on_when_they_are_back() -> None:
    cluster = started("a", "b")
    cluster.peers.clear()
    cluster.settle()
    assert "waits for 1" in cluster.job().reason
    cluster.peers = {peer: FakePeer(described(peer, incarnation="2")) for peer in "ab"}
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b"))


def test_an_added_peer_goes_to_the_job_that_waits_for_one() -> None:
    cluster = started("a", "b")
    cluster.command({"type": "job.submit", "name": "next", "spec": spec()})
    cluster.settle()
    assert "`p2pnode add 1`" in cluster.job("job-2").reason
    cluster.command({"type": "member.join", "member": described("c")})
    cluster.peers["c"] = FakePeer(described("c"))
    cluster.settle()
    assert cluster.job("job-2").members == ("c",)


def test_a_peer_back_before_its_absence_mattered_leaves_the_job_running() -> None:
    """Below the minimum for a moment: the same trainers go on in a new generation."""
    cluster = started("a", "b", peers_min=2)
    away = cluster.peers.pop("b")
    cluster.settle()
    assert cluster.job().state == "recovering"
    cluster.peers["b"] = away
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b"))


def test_a_trainer_that_will_not_stop_is_killed() -> None:
    cluster = started("a", "b")
    cluster.stuck = set(cluster.peers["a"].trainers.started)
    cluster.command({"type": "job.cancel", "job": "job-1"})
    cluster.settle()
    assert not cluster.peers["a"].trainers.started


EVENTS = ("kill", "back", "add", "leave", "remove", "crash", "fail", "submit", "pause", "resume")
STEP = st.tuples(st.sampled_from(EVENTS), st.integers(0, 9), st.integers(0, 3))


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=14), st.integers(1, 3), st.integers(1, 2))
def test_whatever_happened_it_settles(events: list[Any], least: int, slots: int) -> None:
    cluster = started("a", "b", "c", slots=slots, peers_min=least)
    for kind, which, rounds in events:
        happen(cluster, kind, which)
        for _ in range(rounds):
            cluster.plan_once()
            cluster.act()
            cluster.play()
            cluster.now_s += 0.3
    note(f"before calm: {[(j.id, j.state, j.reason) for j in cluster.state.jobs.values()]}")
    cluster.settle()
    check_settled(cluster)
    for name in list(cluster.state.jobs):
        cluster.command({"type": "job.resume", "job": name})
    cluster.may_finish = True
    cluster.settle(200)
    for job in cluster.state.jobs.values():
        assert job.is_final or "waits for" in job.reason, job


def happen(cluster: PlannedCluster, kind: str, which: int) -> None:
    names = sorted(cluster.state.members)
    peer = names[which % len(names)]
    alive = cluster.peers.get(peer)
    job = sorted(cluster.state.jobs)[which % len(cluster.state.jobs)]
    match kind:
        case "kill":
            cluster.peers.pop(peer, None)
        case "back" if alive is None:
            slots = cluster.state.members[peer].slots
            again = described(peer, incarnation=f"again-{len(cluster.commands)}", slots=slots)
            cluster.peers[peer] = FakePeer(again)
        case "add":
            new = described(f"n{len(names)}-{len(cluster.commands)}")
            cluster.command({"type": "member.join", "member": new})
            cluster.peers[new["id"]] = FakePeer(new)
        case "leave" if alive is not None:
            alive.leaving = True
            cluster.command({"type": "member.leave", "peer": peer})
        case "remove" if len(names) > 1:
            cluster.command({"type": "member.remove", "peer": peer})
            cluster.peers.pop(peer, None)
        case "crash" | "fail" if alive is not None:
            hurt(cluster, alive, kind)
        case "submit" if len(cluster.state.jobs) < 3:
            cluster.command({"type": "job.submit", "name": "more", "spec": spec()})
        case "pause" | "resume":
            cluster.command({"type": f"job.{kind}", "job": job})


def hurt(cluster: PlannedCluster, peer: FakePeer, kind: str) -> None:
    for child in list(peer.trainers.started):
        if kind == "fail":
            failed = {"kind": "failed", "error": "OSError", "user_error": False}
            peer.desk.on_message(child, failed, 0.0)
        cluster.end(peer, child)


def check_settled(cluster: PlannedCluster) -> None:
    for job in cluster.state.jobs.values():
        if job.is_final or job.state == "paused" or "waits for" in job.reason:
            continue
        assert job.state == "running", job
        assert job.generation is not None
        for seat in job.generation.seats:
            assert seat.child in cluster.peers[seat.peer].trainers.started
            told = cluster.peers[seat.peer].trainers.told[seat.child][-1]
            assert (told["kind"], told.get("number")) == ("generation", job.generation.number)
