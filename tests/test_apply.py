"""The replicated state: every command, right and wrong, and that nothing in the log can raise."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.replicated.apply import COMMANDS, apply
from p2p.replicated.job_states import FINAL, JOB_TRANSITIONS
from p2p.replicated.state import TASK_BYTES_MAX, State
from p2p.replicated.wire import to_chunks
from tests.log_strategies import commands
from tests.peer_fakes import (
    applied,
    described,
    entered,
    founded,
    generation,
    mark,
    running,
    served,
    spec,
    with_job,
)
from tools.sim.trainers import agreed_checkpoint


def error_of(state: State, command: dict[str, Any]) -> str:
    """What a refused command is answered; it must change nothing."""
    after, answer = apply(state, {"at_s": 1.0, **command})
    assert after == state
    return str(answer["error"])


# -- members -------------------------------------------------------------------------------------


def test_a_cluster_is_found_once() -> None:
    state = founded("a")
    assert (state.cluster_id, state.name, list(state.members)) == ("c0ffee", "lab", ["a"])
    found = {"type": "cluster.found", "cluster_id": "x", "name": "y", "member": described("b")}
    assert "exists already" in error_of(state, found)


def test_a_peer_joins_and_comes_back_at_another_address() -> None:
    state = founded("a", "b")
    back = described("b", incarnation="2", port=9_000)
    state = applied(state, {"type": "member.join", "member": back})
    assert state.members["b"].address == "127.0.0.1:9000"
    assert state.members["b"].incarnation == "2"
    state = applied(state, {"type": "member.join", "member": back})  # it asked several times
    assert [event.text for event in state.events][-2:] == [
        "name-b joined at 127.0.0.1:7798",
        "name-b is back at 127.0.0.1:9000",
    ]


def test_a_taken_name_gets_a_suffix() -> None:
    taken = {**described("bcdef"), "name": "name-a"}
    state = applied(founded("a"), {"type": "member.join", "member": taken})
    assert state.members["bcdef"].name == "name-a-bcde"


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": "many"},
        {"slots": -1},
        {"slots": True},
        {"address": "nowhere"},
        {"address": "a b:1"},
        {"address": "h:0"},
        {"address": "h:65536"},
        {"id": ""},
        {"id": 7},
        {"pid": None},
        {"extra": 1},
        {"state": "left"},
    ],
)
def test_a_member_that_describes_itself_wrongly_does_not_join(wrong: dict[str, Any]) -> None:
    command = {"type": "member.join", "member": {**described("b"), **wrong}}
    assert "malformed" in error_of(founded("a"), command)


def test_only_the_process_that_died_is_dead() -> None:
    state = founded("a", "b")
    dead = {"type": "member.dead", "peer": "b", "reason": "silence"}
    assert "not the process" in error_of(state, {**dead, "incarnation": "0"})
    state = applied(state, {**dead, "incarnation": "1"})
    assert state.members["b"].state == "dead"
    assert "not the process" in error_of(state, {**dead, "incarnation": "1"})
    state = applied(state, {"type": "member.alive", "peer": "b"})
    assert state.members["b"].state == "alive"


def test_a_peer_that_left_does_not_answer_again_by_itself() -> None:
    state = applied(founded("a", "b"), {"type": "member.leave", "peer": "b"})
    assert state.members["b"].state == "left"
    assert "left, not dead" in error_of(state, {"type": "member.alive", "peer": "b"})
    again = applied(state, {"type": "member.leave", "peer": "b"})
    assert again == state, "leaving twice is leaving once"
    back = applied(state, {"type": "member.join", "member": described("b")})
    assert back.members["b"].state == "alive"


def test_a_removed_peer_never_comes_back() -> None:
    state = applied(founded("a", "b"), {"type": "member.remove", "peer": "b"})
    assert "b" not in state.members
    join = {"type": "member.join", "member": described("b")}
    assert "was removed" in error_of(state, join)
    assert apply(state, join)[1]["exit_code"] == 4


@pytest.mark.parametrize("verb", ["dead", "alive", "leave", "remove"])
def test_of_an_unknown_peer_nothing_can_be_said(verb: str) -> None:
    command = {"type": f"member.{verb}", "peer": "z", "incarnation": "1", "reason": ""}
    assert "there is no peer z" in error_of(founded("a"), command)


def test_an_election_is_an_event() -> None:
    state = applied(founded("a"), {"type": "leader.elected", "peer": "a", "term": 3})
    assert state.events[-1].text == "name-a leads in term 3"


# -- jobs ----------------------------------------------------------------------------------------


def test_jobs_are_numbered() -> None:
    state = with_job(with_job(founded("a")))
    assert list(state.jobs) == ["job-1", "job-2"]
    assert state.jobs["job-1"].state == "queued"


def test_the_life_of_a_job() -> None:
    state = running("a", "b")
    assert state.jobs["job-1"].state == "running"
    state = applied(state, mark(1, 40))
    save = agreed_checkpoint("a", 40)
    state = applied(state, save, save)
    assert len(state.jobs["job-1"].checkpoints) == 1, "told twice, kept once"
    state = applied(state, {"type": "job.finish", "job": "job-1", "generation": 1})
    job = state.jobs["job-1"]
    assert (job.state, job.assigned, job.mark and job.mark.step) == ("finished", (), 40)


FENCED: list[dict[str, Any]] = [
    entered(1),
    mark(1, 5),
    {"type": "job.checkpoint", "job": "job-1", "generation": 1, "checkpoint": {}},
    {"type": "job.finish", "job": "job-1", "generation": 1},
]


@pytest.mark.parametrize("command", FENCED, ids=lambda command: str(command["type"]))
def test_what_comes_from_an_older_generation_is_refused(command: dict[str, Any]) -> None:
    state = applied(running("a", "b"), generation(2, "a"))
    assert error_of(state, command) == "from generation 1, the newest is 2"
    assert error_of(state, {**command, "generation": 3}).startswith("from generation 3")


@pytest.mark.parametrize("number", [0, 1, 3, "2", None])
def test_generations_follow_each_other(number: object) -> None:
    wrong = {**generation(2, "a"), "number": number}
    assert "does not follow 1" in error_of(running("a", "b"), wrong)


def test_a_paused_job_gets_no_generation_and_its_old_one_is_closed() -> None:
    state = applied(running("a", "b"), {"type": "job.pause", "job": "job-1"})
    job = state.jobs["job-1"]
    assert job.state == "paused"
    assert job.generation is not None
    assert job.generation.closed
    assert "is paused" in error_of(state, generation(2, "a", "b"))
    state = applied(state, {"type": "job.resume", "job": "job-1"})
    assert state.jobs["job-1"].state == "recovering"
    state = applied(state, generation(2, "a", "b"))
    assert not state.jobs["job-1"].generations[-1].closed


def test_a_job_paused_before_it_started_is_queued_again() -> None:
    state = applied(
        with_job(founded("a"), "a"),
        {"type": "job.pause", "job": "job-1"},
        {"type": "job.resume", "job": "job-1"},
    )
    assert state.jobs["job-1"].state == "queued"
    assert applied(state, generation(1, "a")).jobs["job-1"].state == "starting"


def test_waiting_closes_the_generation_and_says_for_what() -> None:
    state = applied(running("a", "b"), {"type": "job.wait", "job": "job-1", "reason": "2 peers"})
    job = state.jobs["job-1"]
    assert (job.state, job.reason, job.generations[-1].closed) == ("recovering", "2 peers", True)


def test_a_failed_job_frees_its_peers_and_is_an_error() -> None:
    state = applied(running("a"), {"type": "job.fail", "job": "job-1", "reason": "ValueError"})
    assert (state.jobs["job-1"].state, state.jobs["job-1"].assigned) == ("failed", ())
    assert (state.events[-1].severity, state.events[-1].text) == ("error", "run failed: ValueError")


def test_a_peer_is_set_aside_with_the_reason() -> None:
    command = {"type": "job.assign", "job": "job-1", "peers": ["a"], "reason": "x"}
    state = applied(running("a", "b"), {**command, "excluded": {"b": "b is full"}})
    job = state.jobs["job-1"]
    assert (job.assigned, job.excluded) == (("a",), {"b": "b is full"})
    assert state.events[-1].severity == "error"


def test_going_back_is_told_once() -> None:
    second, third = generation(2, "a"), generation(3, "a", "b")
    for command in (second, third):
        command["seats"][0]["child"] = "fresh"
    state = applied(running("a"), mark(1, 30), second, entered(2, 10), third, entered(3, 11))
    texts = [event.text for event in state.events if event.kind == "went-back"]
    assert texts == ["run: every trainer was lost, back from step 30 to the checkpoint of step 10"]
    repeated = [made.steps_repeated for made in state.jobs["job-1"].generations]
    assert repeated == [0, 20, 0], "what was lost is computed again once"


def test_steps_between_two_losses_without_a_mark_are_counted_from_where_it_went_back_to() -> None:
    second, third, fourth = generation(2, "a"), generation(3, "a"), generation(4, "a")
    for number, command in enumerate((second, third, fourth)):
        command["seats"][0]["child"] = f"fresh-{number}"
    told = mark(1, 30), second, entered(2, 10), {**third, "reached": 14}, entered(3, 10)
    state = applied(running("a"), *told, mark(3, 12), fourth, entered(4, 10))
    repeated = [made.steps_repeated for made in state.jobs["job-1"].generations]
    assert repeated == [0, 20, 4, 2], "not again from the mark of step 30, which was lost before"
    assert [made.reached for made in state.jobs["job-1"].generations] == [30, 10, 12, 10]


def test_where_a_generation_that_made_no_step_would_have_gone_on_is_not_forgotten() -> None:
    second, third = {**generation(2, "a"), "reached": 17}, generation(3, "a")
    for number, command in enumerate((second, third)):
        command["seats"][0]["child"] = f"fresh-{number}"
    state = applied(running("a"), mark(1, 10), second, third, entered(3, 10))
    assert state.jobs["job-1"].generations[-1].steps_repeated == 7


@pytest.mark.parametrize(
    ("marked", "reached", "start_step", "repeated"),
    [
        (None, None, 0, 0),
        (30, None, 10, 20),  # of a version that knew of marks only
        (10, 17, 10, 7),  # all died soon after a checkpoint
        (None, 4, 0, 4),
        (30, 12, 10, 20),  # the leader is new, and has not heard of all
        (10, 17, 20, 0),
    ],
)
def test_steps_are_lost_since_the_last_that_anybody_heard_of(
    marked: int | None, reached: int | None, start_step: int, repeated: int
) -> None:
    anew = generation(2, "a") if reached is None else {**generation(2, "a"), "reached": reached}
    anew["seats"][0]["child"] = "fresh"
    marks = [] if marked is None else [mark(1, marked)]
    state = applied(running("a"), *marks, anew, entered(2, start_step))
    assert state.jobs["job-1"].generations[-1].steps_repeated == repeated
    told = [event.text for event in state.events if event.kind == "went-back"]
    where = f"the checkpoint of step {start_step}" if start_step else "the beginning"
    lost = max(marked or 0, reached or 0)
    text = f"run: every trainer was lost, back from step {lost} to {where}"
    assert told == ([text] if repeated else [])


def in_state(target: str) -> State:
    pause, cancel = ({"type": f"job.{verb}", "job": "job-1"} for verb in ("pause", "cancel"))
    return {
        "queued": lambda: with_job(founded("a")),
        "starting": lambda: with_job(founded("a"), "a"),
        "running": lambda: running("a"),
        "recovering": lambda: applied(running("a"), generation(2, "a")),
        "paused": lambda: applied(running("a"), pause),
        "finished": lambda: applied(
            running("a"), {"type": "job.finish", "job": "job-1", "generation": 1}
        ),
        "failed": lambda: applied(running("a"), {"type": "job.fail", "job": "job-1", "reason": ""}),
        "cancelled": lambda: applied(running("a"), cancel),
    }[target]()


TARGETS = {
    "job.pause": "paused",
    "job.cancel": "cancelled",
    "job.fail": "failed",
    "job.finish": "finished",
}


@pytest.mark.parametrize("before", JOB_TRANSITIONS)
@pytest.mark.parametrize("verb", TARGETS)
def test_every_transition_is_in_the_table(before: str, verb: str) -> None:
    state = in_state(before)
    job = state.jobs["job-1"]
    assert job.state == before
    number = job.generation.number if job.generation else 0
    command = {"type": verb, "job": "job-1", "generation": number, "reason": "r", "at_s": 1.0}
    after, answer = apply(state, command)
    target = TARGETS[verb]
    allowed = target in JOB_TRANSITIONS[before] or (target == before and not job.is_final)
    assert ("error" not in answer) == allowed
    assert after.jobs["job-1"].state == (target if allowed else before)


@pytest.mark.parametrize("before", [name for name in JOB_TRANSITIONS if name != "paused"])
def test_only_a_paused_job_resumes(before: str) -> None:
    error = error_of(in_state(before), {"type": "job.resume", "job": "job-1"})
    assert before in error


def test_final_states_are_final() -> None:
    assert {"finished", "failed", "cancelled"} == FINAL
    for targets in JOB_TRANSITIONS.values():
        assert targets <= JOB_TRANSITIONS.keys()


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind.startswith("job.")])
def test_of_an_unknown_job_nothing_can_be_said(kind: str) -> None:
    if kind != "job.submit":
        assert "there is no job" in error_of(
            founded("a"), {"type": kind, "job": "job-9", "reason": ""}
        )


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.replicated.journal.EVENTS_MAX", 5)
    monkeypatch.setattr("p2p.replicated.apply_jobs.HISTORY_POINTS_MAX", 10)
    state = running("a")
    for step in range(1, 41):
        state = applied(
            state,
            mark(1, step),
            {"type": "leader.elected", "peer": "a", "term": step},
        )
    assert len(state.events) == 5
    assert len({event.index for event in state.events}) == 5
    steps = [made.step for made in state.jobs["job-1"].marks]
    assert len(steps) <= 10
    assert steps == sorted(steps)
    assert steps[-1] == 40


def test_of_a_job_the_newest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.replicated.apply_jobs.GENERATIONS_MAX", 3)
    monkeypatch.setattr("p2p.replicated.apply_jobs.LEDGER_ROWS_MAX", 3)
    state = running("a")
    for number in range(2, 8):
        row = {"epoch": number, "samples": 1, "distinct": 1, "repeated": 0, "missing": 0}
        state = applied(
            state,
            generation(number, "a"),
            {**mark(number, number), "ledger": [row]},
            entered(number, number),
            agreed_checkpoint("a", number, number),
        )
    job = state.jobs["job-1"]
    assert [made.number for made in job.generations] == [5, 6, 7]
    assert [made.step for made in job.checkpoints] == [5, 6, 7]
    assert [row["epoch"] for row in job.ledger] == [5, 6, 7]


def test_only_so_many_jobs_that_ended_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.replicated.job_records.FINAL_JOBS_MAX", 2)
    state = with_job(founded("a"))
    for number in range(2, 6):
        state = with_job(state)
        state = applied(state, {"type": "job.cancel", "job": f"job-{number}"})
    assert list(state.jobs) == ["job-1", "job-4", "job-5"], "a job that goes on is never forgotten"
    assert list(with_job(state).jobs)[-1] == "job-6", "and no number is given twice"


@pytest.mark.parametrize(
    ("jobs", "more", "kept"),
    [
        # By what each job has: bytes of its task's files, and "!" where it has ended.
        (["40!", "40!"], 20, "job-1 job-2 job-3"),
        (["40!", "40!"], 21, "job-2 job-3"),
        (["40!", "40!"], 61, "job-3"),
        (["40", "40!"], 60, "job-1 job-3"),
        (["0!", "90!", "5!"], 50, "job-1 job-3 job-4"),  # who has no files gives no room
        (["100!"], 0, "job-1 job-2"),  # and who brings none needs none
        (["150!", "150"], 0, "job-1 job-2 job-3"),  # as an older version left it
        (["40", "40!"], 61, None),
        (["100"], 1, None),
    ],
)
def test_the_files_of_all_tasks_are_bounded(
    jobs: list[str], more: int, kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(count: int) -> dict[str, Any]:
        return {"task_source": b"#" * (count // 2), "task_files": {"a.py": b"#" * -(-count // 2)}}

    state = founded("a")
    for number, told in enumerate(jobs, 1):
        state = with_job(state, **files(int(told.rstrip("!"))) if told != "0!" else {})
        if told.endswith("!"):
            state = applied(state, {"type": "job.cancel", "job": f"job-{number}"})
    monkeypatch.setattr("p2p.replicated.job_records.TASK_BYTES_MAX", 100)
    submit = {"type": "job.submit", "name": "new", "spec": spec(**files(more)), "at_s": 1.0}
    after, answer = apply(state, submit)
    if kept is not None:
        assert list(after.jobs) == kept.split(), answer
        return
    assert after == state
    assert answer["error"] == (
        f"no room for the files of new ({more / 1e6:.1f} MB): those of jobs that have not ended "
        "may have 0 MB together; wait for one to end, or `p2pnode cancel` one"
    )


def test_a_snapshot_stays_small_however_many_large_tasks_there_were() -> None:
    state, source = founded("a"), bytes(1 << 20)
    for number in range(1, 80):
        state = with_job(state, task_source=source)
        state = applied(state, {"type": "job.cancel", "job": f"job-{number}"})
    assert len(state.jobs) == 32
    assert sum(map(len, to_chunks(state))) < 33 << 20


# -- anything at all -----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.lists(commands(), max_size=12))
def test_nothing_in_the_log_raises_and_all_peers_agree(log: list[Any]) -> None:
    one = two = running("a", "b")
    for command in log:
        one, first = apply(one, command)
        two, second = apply(two, command)
        assert repr(first) == repr(second)
    assert repr(asdict(one)) == repr(asdict(two))


def test_what_is_served_no_more_leaves_no_files_in_the_state() -> None:
    half = {**spec(), "task_source": b"x" * (TASK_BYTES_MAX // 2 + 1)}
    state = applied(running("a"), served(job=half))
    assert "no room for the task's files of more" in error_of(state, served(name="more", job=half))
    state = applied(state, {"type": "serve.stop", "service": "serve-1"})
    ended = state.services["serve-1"]
    assert (ended.job, ended.revision.files, ended.revision.step) == (None, (), 3)
    applied(state, served(name="more", job=half))
