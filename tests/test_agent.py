"""The agent: what one peer does to its own trainers; and the desk that carries it out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from p2p.agent import (
    BACKOFF_MAX_S,
    CRASHES_MAX,
    FORGIVEN_EVERY_S,
    Crashes,
    File,
    Local,
    LocalTrainer,
    Remove,
    Start,
    Stop,
    Tell,
    backoff_s,
    generation_message,
    plan,
)
from p2p.control.deadlines import FIRST_S, FLOOR_S, hung, pulse
from p2p.processes import MemoryChildren
from p2p.replicated.state import State
from p2p.trainer_desk import CHECKPOINTS_TOLD, LEASE_S, STOP_WITHIN_S, TrainerDesk, Workplace
from p2p.wire.envelope import Malformed
from tests.peer_fakes import applied, entered, founded, generation, running, served, with_job
from tools.sim.trainers import agreed_checkpoint, checkpoint, standing


def local(*trainers: LocalTrainer, **fields: Any) -> Local:
    by_job = {told.job: told for told in trainers}
    base: dict[str, Any] = {"self_id": "a", "now_s": 100.0, "leaving": False, "warm": True}
    return Local(**{**base, "trainers": by_job, "crashes": {}, **fields})


def mine(phase: str = "ready", **fields: Any) -> LocalTrainer:
    return LocalTrainer("child-a", "job-1", phase, **fields)


PAUSE = {"type": "job.pause", "job": "job-1"}
RESUME = {"type": "job.resume", "job": "job-1"}
CANCEL = {"type": "job.cancel", "job": "job-1"}


def unassigned(state: State) -> State:
    assign = {"type": "job.assign", "job": "job-1", "peers": ["b"], "reason": ""}
    return applied(state, assign)


# -- starting and stopping -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "starts"),
    [
        ({}, True),
        ({"warm": False}, False),
        ({"leaving": True}, False),
        ({"self_id": "b"}, False),
        ({"crashes": {"job-1": Crashes(1, 100.0)}}, True),
        ({"crashes": {"job-1": Crashes(2, 99.8)}}, False),
        ({"crashes": {"job-1": Crashes(2, 99.4)}}, True),
        ({"crashes": {"job-1": Crashes(CRASHES_MAX, 0.0)}}, False),
    ],
)
def test_an_assigned_job_gets_a_trainer(fields: Mapping[str, Any], starts: bool) -> None:
    actions = plan(with_job(founded("a", "b"), "a"), local(**fields))
    assert any(isinstance(action, Start) for action in actions) == starts


def test_one_trainer_per_job() -> None:
    assert plan(with_job(founded("a"), "a"), local(mine("starting"))) == []


def test_backoff_doubles_and_ends() -> None:
    waits = [backoff_s(count) for count in range(12)]
    assert waits[:6] == [0.0, 0.0, 0.5, 1.0, 2.0, 4.0]
    assert waits == sorted(waits)
    assert waits[-1] == BACKOFF_MAX_S


def test_a_trainer_is_told_which_parts_of_checkpoints_its_peer_has() -> None:
    state = running("a", "b")
    state = applied(state, agreed_checkpoint("a", 9), agreed_checkpoint("b", 20))
    told = generation_message(state.jobs["job-1"], "a")["checkpoints"]
    part = {"number": 0, "path": "/data/9", "digest": "sha256:part"}
    assert [(each["step"], each["parts"]) for each in told] == [(9, [part]), (20, [])]


def test_a_wish_for_a_checkpoint_is_told_once() -> None:
    state = applied(running("a"), {"type": "job.checkpoint_ask", "job": "job-1"})
    wish = Tell("child-a", {"kind": "checkpoint", "number": 1})
    assert wish in plan(state, local(mine()))
    assert wish not in plan(state, local(replace(mine(), told_asks=1)))
    done = applied(state, agreed_checkpoint("a", 9))
    assert wish not in plan(done, local(mine()))


def test_files_that_the_log_does_not_keep_are_removed() -> None:
    state = running("a", keep_checkpoints=2)
    state = applied(state, *(agreed_checkpoint("a", step) for step in (10, 20, 30)))
    files = {f"/data/{step}": File("job-1", step) for step in (10, 15, 20, 25, 30, 40)}
    files["/data/of-another-cluster"] = File("job-9", 1)

    def removed(state: State, *trainers: LocalTrainer) -> list[str]:
        at = replace(local(*trainers), files=files)
        return [action.path for action in plan(state, at) if isinstance(action, Remove)]

    assert removed(state, mine()) == ["/data/10", "/data/15"], "40 may be agreed yet, 25 too"
    revision = served()["revision"]
    file = {**revision["files"][0], "path": "/data/10"}
    using = applied(state, served(revision={**revision, "files": [file]}))
    assert removed(using, mine()) == ["/data/15"], "somebody serves it"
    state = applied(state, {"type": "job.finish", "job": "job-1", "generation": 1})
    assert removed(state, mine()) == ["/data/10", "/data/15"]
    assert removed(state) == ["/data/10", "/data/15", "/data/25", "/data/40"]


def test_a_trainer_stops_when_its_job_ends_or_runs_elsewhere() -> None:
    ended = applied(running("a", "b"), CANCEL)
    assert plan(ended, local(mine())) == [Stop("child-a", "its job has ended")]
    seated = unassigned(running("a", "b"))
    assert not any(isinstance(action, Stop) for action in plan(seated, local(mine())))
    without = applied(seated, generation(2, "b"))
    assert Stop("child-a", "its job runs elsewhere") in plan(without, local(mine()))


# -- telling -------------------------------------------------------------------------------------


def test_a_ready_trainer_is_told_the_newest_generation_once() -> None:
    state = running("a", "b")
    message = generation_message(state.jobs["job-1"], "a")
    assert plan(state, local(mine())) == [Tell("child-a", message)]
    assert message["number"] == 1
    assert message["shards"] == [[0, 6], [6, 12]]
    assert [told["peer"] for told in message["members"]] == ["a", "b"]
    assert plan(state, local(mine(told_generation=1))) == []
    assert plan(state, local(mine("starting"))) == []
    assert plan(state, local(mine("stopping"))) == []


def test_who_goes_on_with_all_others_may_finish_the_round() -> None:
    """Nobody of the generation before is missing: newcomers wait, and no step is broken off."""
    state = running("a", "b")
    crashed = generation(2, "a", "b")
    crashed["seats"][1]["child"] = "b-2"
    begun = applied(with_job(founded("a", "b"), "a", "b"), generation(1, "a", "b"))
    joined = applied(state, generation(2, "a", "b", "c"))
    told = {
        "first": (state, False),
        "joined": (joined, True),
        "shards move": (applied(state, generation(2, "a", "b")), True),
        "joined twice": (applied(joined, entered(2), generation(3, "a", "b", "c", "d")), True),
        "the one before made no step": (applied(joined, generation(3, "a", "b", "c", "d")), False),
        "neither did the first": (applied(begun, generation(2, "a", "b", "c")), False),
        "lost": (applied(state, generation(2, "a")), False),
        "crashed": (applied(state, crashed), False),
        "lost and joined": (applied(state, generation(2, "a", "c")), False),
        "after a pause": (applied(state, PAUSE, RESUME, generation(2, "a", "b", "c")), False),
    }
    for what, (after, expected) in told.items():
        assert generation_message(after.jobs["job-1"], "a")["in_order"] is expected, what


def test_another_child_s_seat_is_not_mine_but_it_can_be_followed() -> None:
    other, state = replace(mine(), child="child-new"), running("a", "b")
    (told,) = plan(state, local(other))
    assert isinstance(told, Tell)
    assert told.message["kind"] == "follow"
    assert told.message["number"] == 1
    assert [member["peer"] for member in told.message["members"]] == ["a", "b"]
    assert plan(state, local(replace(other, told_follow=1))) == []
    assert plan(applied(state, PAUSE), local(replace(other, held=True))) == []


@pytest.mark.parametrize("held", [False, True])
def test_a_pause_holds_and_a_new_generation_releases(held: bool) -> None:
    state = applied(running("a", "b"), PAUSE)
    trainer = mine(told_generation=1, held=held)
    hold = [] if held else [Tell("child-a", {"kind": "hold", "wanted": True})]
    assert plan(state, local(trainer)) == hold
    state = applied(state, {"type": "job.resume", "job": "job-1"})
    hold = [] if held else [Tell("child-a", {"kind": "hold", "wanted": False})]
    assert plan(state, local(trainer)) == hold, "until the new generation stands"
    state = applied(state, generation(2, "a", "b"))
    (tell,) = plan(state, local(mine(told_generation=1, held=True)))
    assert isinstance(tell, Tell)
    assert tell.message["number"] == 2


def test_a_trainer_without_a_seat_is_held() -> None:
    state = applied(running("a", "b"), generation(2, "b"))
    trainer = mine(told_generation=1)
    assert plan(state, local(trainer)) == [Tell("child-a", {"kind": "hold", "wanted": False})]
    assert plan(state, local(replace(trainer, held=True))) == []


# -- the desk ------------------------------------------------------------------------------------


class Desk:
    def __init__(self, state: State) -> None:
        self.state = state
        self.trainers = MemoryChildren()
        self.changes = 0
        place = Workplace("a", "127.0.0.1", "/ipc", {"server_public": b"k"}, "/data", "/src")
        self.desk = TrainerDesk(place, self.trainers, self._new_id, self._changed)
        self.now_s = 100.0
        self.made = 0

    def _new_id(self) -> str:
        self.made += 1
        return f"c{self.made}"

    def _changed(self) -> None:
        self.changes += 1

    def act(self, seconds: float = 0.0) -> None:
        self.now_s += seconds
        self.desk.act(self.state, self.now_s, leaving=False)

    def ready(self, child: str) -> None:
        ready = {"endpoints": {"tcp": child}, "steps_total": 40}
        self.desk.on_message(child, {"kind": "ready", **ready}, self.now_s)


def test_the_first_message_carries_what_a_trainer_needs() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    begin = desk.trainers.started["c1"]
    assert begin["checkpoint_dir"] == "/data/job-1"
    assert begin["job"]["id"] == "job-1"
    assert begin["job"]["name"] == "run"
    assert not {"peers_min", "peers_max"} & set(begin["job"])
    assert begin["keys"] == {"server_public": b"k"}


def test_a_trainer_that_keeps_dying_is_given_up_and_told_of() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    for count in range(1, CRASHES_MAX + 1):
        desk.act(60.0)
        desk.desk.on_exit(f"c{count}", "signal 9", desk.now_s)
        assert desk.desk.reports["job-1"].crashed["count"] == count
    desk.act()
    report = desk.desk.reports["job-1"]
    assert report.phase == "failed"
    assert report.failed["error"] == "its trainer died 6 times in a row: signal 9"
    desk.act(600.0)
    assert len(desk.trainers.started) == CRASHES_MAX


def test_training_for_a_while_forgives_a_crash() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    for count in range(1, 3 * CRASHES_MAX):
        desk.act(60.0)
        desk.ready(f"c{count}")
        entered = {"generation": 1, "start_step": 1, "stall_s": None, "steps_repeated": 0}
        desk.desk.on_message(f"c{count}", {"kind": "entered", **entered}, desk.now_s)
        desk.now_s += FORGIVEN_EVERY_S
        desk.desk.on_exit(f"c{count}", "signal 9", desk.now_s)
    assert desk.desk.reports["job-1"].crashed["count"] == 1


@pytest.mark.parametrize("trained_s", [0.0, 5.0])
def test_who_dies_right_after_its_first_step_is_given_up_too(trained_s: float) -> None:
    desk = Desk(with_job(founded("a"), "a"))
    for count in range(1, CRASHES_MAX + 1):
        desk.act(60.0)
        desk.ready(f"c{count}")
        entered = {"generation": 1, "start_step": 1, "stall_s": None, "steps_repeated": 0}
        desk.desk.on_message(f"c{count}", {"kind": "entered", **entered}, desk.now_s)
        desk.now_s += trained_s
        desk.desk.on_exit(f"c{count}", "", desk.now_s)
        desk.desk.on_status(f"c{count}", "it ended with code 3")
    desk.act()
    error = desk.desk.reports["job-1"].failed["error"]
    assert error == "its trainer died 6 times in a row: it ended with code 3"


def test_how_a_trainer_ended_may_be_known_before_its_end_is_noticed() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    desk.desk.on_status("c1", "it ended with code 3")
    desk.desk.on_exit("c1", "", desk.now_s)
    assert desk.desk.reports["job-1"].crashed["error"] == "it ended with code 3"


def test_a_drill_is_no_crash() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    for count in range(1, 2 * CRASHES_MAX):
        desk.act()
        assert desk.desk.crash() == 1
        desk.desk.on_exit(f"c{count}", "", desk.now_s)
    assert desk.desk.reports == {}


def test_where_no_trainer_can_be_started_the_leader_hears_why() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.trainers.warm, desk.trainers.problem = False, "no trainer can be started: no torch"
    desk.act()
    assert desk.desk.reports["job-1"].failed["error"] == "no trainer can be started: no torch"


def test_when_a_trainer_ends_its_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    looked: list[str] = []
    monkeypatch.setattr(desk.desk.shelf, "look", looked.append)
    desk.desk.on_exit("c1", "signal 9", desk.now_s)
    assert looked == ["job-1"]


def test_of_two_jobs_given_up_here_each_is_let_go_by_itself() -> None:
    state = with_job(with_job(founded("a"), "a"), "a")
    desk = Desk(state)
    desk.trainers.warm, desk.trainers.problem = False, "no trainer can be started: no torch"
    desk.act()
    assert set(desk.desk.reports) == {"job-1", "job-2"}
    desk.state = applied(desk.state, {**CANCEL, "job": "job-2"})
    desk.act()
    assert set(desk.desk.reports) == {"job-1"}
    desk.state = applied(desk.state, CANCEL)
    desk.act()
    assert desk.desk.reports == {}


# -- hung trainers -------------------------------------------------------------------------------


def beat(doing: str, for_s: float, usual_s: float | None) -> dict[str, Any]:
    return {"kind": "pulse", "doing": doing, "step": 7, "for_s": for_s, "usual_s": usual_s}


@pytest.mark.parametrize(
    ("doing", "for_s", "usual_s", "silent_s", "sentence"),
    [
        ("gradients", FLOOR_S - 1, 0.1, 0.0, None),
        (
            "gradients",
            12.0,
            0.1,
            0.0,
            "it hung: gradients of step 7 for 12 s, where 0.1 s is usual",
        ),
        ("gradients", 12.0, 2.0, 0.0, None),
        ("gradients", 12.0, 2.0, 8.0, "it hung: gradients of step 7 for 20 s, where 2 s is usual"),
        ("gradients", 60.0, None, 0.0, None),
        ("gradients", FIRST_S, None, 0.0, "it hung: gradients of step 7 for 300 s"),
        ("exchange", 600.0, 0.1, 0.0, None),
        ("exchange", 0.0, 0.1, FLOOR_S, "it hung: no sign of life for 10 s, at step 7"),
        ("wait", 600.0, 0.1, 0.0, None),
    ],
)
def test_who_hangs(
    doing: str, for_s: float, usual_s: float | None, silent_s: float, sentence: str | None
) -> None:
    last = pulse(beat(doing, for_s, usual_s), 100.0)
    assert hung(last, 100.0 + silent_s) == sentence


def test_a_hung_trainer_is_killed_once_and_that_is_a_crash() -> None:
    desk = Desk(running("a", "b"))
    desk.act()
    desk.ready("c1")
    desk.desk.on_message("c1", beat("gradients", 40.0, 0.1), desk.now_s)
    desk.act()
    assert desk.trainers.killed == {"c1"}
    assert not desk.desk.reports["job-1"].is_ready, "the others go on at once"
    desk.desk.on_exit("c1", "", desk.now_s)
    told = desk.desk.reports["job-1"].crashed
    assert told["error"] == "it hung: gradients of step 7 for 40 s, where 0.1 s is usual"
    desk.act()
    assert "c2" in desk.trainers.started


def test_a_peer_that_did_not_run_takes_no_trainer_for_hung() -> None:
    desk = Desk(running("a", "b"))
    desk.act()
    desk.ready("c1")
    desk.desk.on_message("c1", beat("gradients", 0.1, 0.1), desk.now_s)
    desk.act(60.0)
    assert desk.trainers.killed == set()


def test_a_failed_trainer_stays_reported_until_its_job_lets_go() -> None:
    desk = Desk(with_job(founded("a", "b"), "a"))
    desk.act()
    desk.desk.on_message("c1", {"kind": "failed", "error": "ValueError", "user_error": True}, 0.0)
    desk.desk.on_exit("c1", "code 1", desk.now_s)
    assert desk.desk.reports["job-1"].failed["error"] == "ValueError"
    desk.state = unassigned(desk.state)
    desk.act()
    assert desk.desk.reports == {}


def test_a_trainer_that_stops_has_no_seat_and_is_killed_when_it_stays() -> None:
    desk = Desk(with_job(founded("a", "b"), "a"))
    desk.act()
    desk.ready("c1")
    desk.state = unassigned(desk.state)
    desk.act()
    assert desk.trainers.told["c1"] == [{"kind": "stop"}]
    assert not desk.desk.reports["job-1"].is_ready
    desk.act(STOP_WITHIN_S - 0.1)
    assert desk.trainers.killed == set()
    desk.act(0.2)
    assert desk.trainers.killed == {"c1"}
    desk.desk.on_exit("c1", "signal 9", desk.now_s)
    assert desk.desk.reports == {}


def test_a_late_ready_does_not_revive_what_was_told_to_stop() -> None:
    desk = Desk(with_job(founded("a", "b"), "a"))
    desk.act()
    desk.state = applied(desk.state, CANCEL)
    desk.act()
    desk.ready("c1")
    assert not desk.desk.reports["job-1"].is_ready


def test_leases_are_renewed_often_and_counted_from_what_was_heard() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    desk.desk.lease(90.0, desk.now_s)
    desk.desk.lease(90.02, desk.now_s + 0.02)
    assert desk.trainers.leased_s == {"c1": 90.0 + LEASE_S}
    desk.desk.lease(90.2, desk.now_s + 0.2)
    assert desk.trainers.leased_s == {"c1": 90.2 + LEASE_S}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "ready"},
        {"kind": "ready", "endpoints": [], "steps_total": 1},
        {"kind": "entered", "generation": "1", "start_step": 1, "stall_s": None},
        {"kind": "mark", **standing(1, 1), "state_hash": None},
        {"kind": "checkpoint", "step": 1},
        {"kind": "failed"},
    ],
)
def test_what_a_trainer_says_wrongly_is_not_kept(message: Mapping[str, Any]) -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    before = dict(desk.desk.reports)
    if message:
        with pytest.raises(Malformed):
            desk.desk.on_message("c1", message, 0.0)
    else:
        desk.desk.on_message("c1", message, 0.0)
    assert desk.desk.reports == before


def test_only_the_newest_checkpoints_are_reported_again() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    for step in range(3 * CHECKPOINTS_TOLD):
        desk.desk.on_message("c1", checkpoint(step), 0.0)
    told = desk.desk.reports["job-1"].checkpoints
    assert [made["step"] for made in told][-1] == 3 * CHECKPOINTS_TOLD - 1
    assert len(told) == CHECKPOINTS_TOLD


def test_the_leader_hears_at_once_of_what_it_waits_for() -> None:
    desk = Desk(with_job(founded("a"), "a"))
    desk.act()
    progress = {"generation": 1, "step": 1, "samples_per_second": 1.0}
    desk.desk.on_message("c1", {"kind": "progress", **progress}, 0.0)
    assert desk.changes == 0
    desk.ready("c1")
    assert desk.changes == 1


def test_every_trainer_has_a_gpu_of_its_own_while_there_are_enough() -> None:
    state = founded("a")
    for _ in range(3):
        state = with_job(state, "a")
    busy = LocalTrainer("child-a", "job-1", "ready", gpu="GPU-0")
    starts = plan(state, local(busy, gpus=("GPU-0", "GPU-1")))
    assert [(start.job.id, start.gpu) for start in starts if isinstance(start, Start)] == [
        ("job-2", "GPU-1"),
        ("job-3", "GPU-0"),
    ]
    (start, *_) = plan(state, local(gpus=()))
    assert isinstance(start, Start)
    assert start.gpu is None
