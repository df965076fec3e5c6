"""Commands about jobs: what runs, on whom, and where it stands.

Whatever comes from outside the log (a mark, a checkpoint, an end) carries its generation and is
refused when a newer one is known: that is the fence (DESIGN: fencing).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from consensus.wire import as_uint
from p2p.replicated.apply_checkpoints import restored, usable_only
from p2p.replicated.job_records import (
    Command,
    active,
    closed,
    fenced,
    moved,
    with_job,
    with_room,
)
from p2p.replicated.job_states import JobState
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.state import (
    GENERATIONS_MAX,
    HISTORY_POINTS_MAX,
    LEDGER_ROWS_MAX,
    TEXT_MAX,
    Generation,
    Job,
    Mark,
    Notice,
    Samples,
    Seat,
    State,
)
from p2p.training.method import Method

Result = tuple[State, Mapping[str, Any]]
_SAMPLES = ("epoch", "step")


def submit(state: State, command: Command) -> Result:
    newest = max((int(id_.removeprefix("job-")) for id_ in state.jobs), default=0)
    job = Job(id=f"job-{newest + 1}", name=str(command["name"]), spec=dict(command["spec"]))
    text = f"{job.name} was submitted"
    if "restored" in command:
        job, text = restored(state, command["restored"], job)
    state = with_job(with_room(state, job), job)
    return with_event(state, command, "job-submitted", text, job=job.id), {"job": job.id}


def assign(state: State, command: Command) -> Result:
    """The peers that shall keep a trainer for the job, and those set aside."""
    job = active(state, command)
    job = replace(
        job,
        assigned=tuple(command["peers"]),
        excluded={**job.excluded, **command.get("excluded", {})},
    )
    if job.state == "queued" and job.assigned:
        job = moved(job, "starting", str(command["reason"]))
    state = with_job(state, job)
    for peer, why in command.get("excluded", {}).items():
        text = f"{job.name}: {why}"
        state = with_event(
            state, command, "job-excludes", text, severity="error", peer=peer, job=job.id
        )
    return state, {}


def generation(state: State, command: Command) -> Result:
    job = active(state, command)
    number = command["number"]
    newest = job.generation.number if job.generation else 0
    if number != newest + 1:
        raise Rejected(f"generation {number} does not follow {newest}")
    if job.state == "paused":
        raise Rejected(f"{job.name} is paused")
    seats = tuple(Seat(**seat) for seat in command["seats"])
    lost = job.generation.reached if job.generation else 0
    reached = max(as_uint(command.get("reached", 0), "reached"), lost)
    formed = Generation(number, seats, str(command["reason"]), job.method, reached=reached)
    generations = (*job.generations, formed)[-GENERATIONS_MAX:]
    job = replace(job, generations=generations, steps_total=command.get("steps_total"))
    told = command.get("samples")
    if told is not None:
        job = replace(job, samples=Samples(*(as_uint(told[name], name) for name in _SAMPLES)))
    job = moved(job, "recovering" if number > 1 else "starting", formed.reason)
    state = with_job(state, job)
    names = ", ".join(_name(state, seat.peer) for seat in formed.seats)
    text = f"{job.name} generation {number} with {names}: {formed.reason}"
    return with_event(state, command, "generation", text, job=job.id), {}


def entered(state: State, command: Command) -> Result:
    """The newest generation applied its first step (or found nothing left to do)."""
    job, start_step = fenced(state, command), command["start_step"]
    # Trainers that begin anew do not know how far those before them had come; others do.
    reached = job.generations[-1].reached
    back = max(0, reached - start_step)
    back = min(back, command["steps_repeated"]) if _has_survivor(job) else back
    newest = replace(
        job.generations[-1],
        start_step=start_step,
        stall_s=command["stall_s"],
        steps_repeated=max(command["steps_repeated"], back),
        reached=start_step,  # what was lost is lost once
    )
    job = usable_only(replace(job, generations=(*job.generations[:-1], newest)), start_step)
    went_back = back > 0
    state = with_job(
        state, moved(job, "running", "") if job.state in ("starting", "recovering") else job
    )
    stall_s = newest.stall_s
    if stall_s is not None:
        text = f"{job.name} goes on at step {start_step} after {stall_s:.2f} s without a step"
        state = with_event(state, command, "barrier", text, job=job.id)
    if went_back:
        origin = f"the checkpoint of step {start_step}" if start_step else "the beginning"
        text = f"{job.name}: every trainer was lost, back from step {reached} to {origin}"
        state = with_event(state, command, "went-back", text, severity="warning", job=job.id)
    return state, {}


def _has_survivor(job: Job) -> bool:
    """Whether a trainer of the newest generation has made steps in an earlier one."""
    stepped = {
        seat.child
        for made in job.generations[:-1]
        if made.start_step is not None
        for seat in made.seats
    }
    return any(seat.child in stepped for seat in job.generations[-1].seats)


def mark(state: State, command: Command) -> Result:
    job = fenced(state, command)
    made = Mark(**command["mark"], at_s=float(command["at_s"]))
    marks = job.marks if job.mark is None or made.step != job.mark.step else job.marks[:-1]
    newest = replace(job.generations[-1], reached=max(job.generations[-1].reached, made.step))
    job = replace(
        job,
        generations=(*job.generations[:-1], newest),
        marks=_thinned((*marks, made)),
        ledger=_continued(job.ledger, command.get("ledger", ())),
    )
    return _noticed(with_job(state, job), command, job), {}


def _noticed(state: State, command: Command, job: Job) -> State:
    """With what the trainers say people should know now; what is new of it is an event."""
    notices = tuple(_notice(state, told) for told in command.get("notices", ()))
    for notice in notices:
        if notice not in job.notices:
            text = f"{job.name}: {notice.text}"
            told = {"peer": notice.peer, "job": job.id}
            state = with_event(state, command, "notice", text, severity="warning", **told)
    return with_job(state, replace(active(state, command), notices=notices))


def _notice(state: State, told: Mapping[str, Any]) -> Notice:
    text, peer = str(told["text"])[:TEXT_MAX], told["peer"]
    return Notice(text) if peer is None else Notice(f"{_name(state, peer)}: {text}", str(peer))


def crashed(state: State, command: Command) -> Result:
    """A trainer died; its peer starts another after a while."""
    job, peer = active(state, command), str(command["peer"])
    if job.crashed.get(peer) == command["child"]:
        raise Rejected(f"{job.name}: that was said already")
    known = {other: child for other, child in job.crashed.items() if other in state.members}
    job = replace(job, crashed={**known, peer: str(command["child"])})
    text = f"{job.name}: {str(command['reason'])[:TEXT_MAX]}"
    told = {"peer": peer, "job": job.id}
    state = with_job(state, job)
    return with_event(state, command, "trainer-crashed", text, severity="warning", **told), {}


def pause(state: State, command: Command) -> Result:
    job = moved(active(state, command), "paused", str(command.get("reason", "paused by a user")))
    return _told(state, command, closed(job), "job-paused", "paused")


def resume(state: State, command: Command) -> Result:
    job = active(state, command)
    if job.state != "paused":
        raise Rejected(f"{job.name} is {job.state}, not paused")
    job = moved(job, "recovering" if job.generations else "queued", "resumed")
    return _told(state, command, job, "job-resumed", "resumed")


def cancel(state: State, command: Command) -> Result:
    job = moved(active(state, command), "cancelled", str(command.get("reason", "by a user")))
    return _told(state, command, replace(job, assigned=()), "job-cancelled", "cancelled")


def set_method(state: State, command: Command) -> Result:
    """Another strategy, codec or option; the next generation, and so a step's end, brings it in."""
    job = active(state, command)
    was, told = job.method, command["method"]
    if command["after_revision"] != was.revision:
        raise Rejected(f"{job.name} was set otherwise meanwhile ({was.reason}): try again")
    options = {str(name): str(text) for name, text in told["options"].items()}
    made = Method(str(told["strategy"]), str(told["codec"]), options, auto=bool(told["auto"]))
    if made == replace(was, revision=0, reason=""):
        return state, {"job": job.id, "state": job.state}
    reason = str(command["reason"])
    job = replace(job, was_set=replace(made, revision=was.revision + 1, reason=reason))
    return _told(state, command, job, "job-set", f"has {reason}")


def wait(state: State, command: Command) -> Result:
    """A job that cannot go on now says for what it waits; nobody steps in its old generation."""
    job = active(state, command)
    reason = str(command["reason"])
    target: JobState = "recovering" if job.state == "running" else job.state
    state = with_job(state, closed(moved(job, target, reason)))
    text = f"{job.name} {reason}"
    return with_event(state, command, "job-waits", text, severity="warning", job=job.id), {}


def finish(state: State, command: Command) -> Result:
    job = moved(fenced(state, command), "finished", "")
    return _told(state, command, replace(job, assigned=()), "job-finished", "finished")


def fail(state: State, command: Command) -> Result:
    reason = str(command["reason"])
    job = replace(moved(active(state, command), "failed", reason), assigned=())
    text = f"failed: {reason}"
    state, answer = _told(state, command, job, "job-failed", text)
    return replace(
        state, events=(*state.events[:-1], replace(state.events[-1], severity="error"))
    ), answer


def _told(state: State, command: Command, job: Job, kind: str, text: str) -> Result:
    state = with_event(with_job(state, job), command, kind, f"{job.name} {text}", job=job.id)
    return state, {"job": job.id, "state": job.state}


def _thinned(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """At most HISTORY_POINTS_MAX: when full, every second of the older half goes."""
    if len(marks) <= HISTORY_POINTS_MAX:
        return marks
    half = len(marks) // 2
    return marks[:half:2] + marks[half:]


def _continued(
    ledger: tuple[Mapping[str, int], ...], rows: Sequence[Mapping[str, int]]
) -> tuple[Mapping[str, int], ...]:
    """The ledger with the rows from some epoch on replaced by these, which say that epoch anew."""
    if not rows:
        return ledger
    before = (row for row in ledger if row["epoch"] < rows[0]["epoch"])
    return (*before, *rows)[-LEDGER_ROWS_MAX:]


def _name(state: State, peer: str) -> str:
    member = state.members.get(peer)
    return member.name if member else peer


JOB_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "job.submit": submit,
    "job.assign": assign,
    "job.generation": generation,
    "job.entered": entered,
    "job.mark": mark,
    "job.crashed": crashed,
    "job.pause": pause,
    "job.resume": resume,
    "job.cancel": cancel,
    "job.set": set_method,
    "job.wait": wait,
    "job.finish": finish,
    "job.fail": fail,
}
