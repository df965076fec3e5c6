"""Who trains with whom: what the leader decides of generations, and of shards."""

from dataclasses import replace

import pytest

from p2p.control.awaited import AWAITED_S, FENCED_S
from p2p.control.controller import plan
from p2p.control.generations import WARM_UP_S
from p2p.reports import Observed, PeerReport
from tests.peer_fakes import (
    applied,
    described,
    entered,
    founded,
    generation,
    mark,
    observed,
    report,
    running,
    trainer,
    with_job,
)
from tests.test_controller import only, peers_of, planned
from tools.sim.trainers import STEPS


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
