"""A job in the replicated state: found, fenced, moved from state to state, put back. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2p.replicated.job_states import JOB_TRANSITIONS, JobState
from p2p.replicated.journal import Rejected
from p2p.replicated.state import FINAL_JOBS_MAX, TASK_BYTES_MAX, Job, State

Command = Mapping[str, Any]


def active(state: State, command: Command) -> Job:
    """The job that a command is about. Raises Rejected when there is none, or it has ended."""
    job = state.jobs.get(str(command["job"]))
    if job is None:
        raise Rejected(f"there is no job {command['job']}")
    if job.is_final:
        raise Rejected(f"{job.name} is {job.state} already")
    return job


def fenced(state: State, command: Command) -> Job:
    """The same, if the command is of its newest generation."""
    job = active(state, command)
    newest = job.generation.number if job.generation else 0
    if command["generation"] != newest:
        raise Rejected(f"from generation {command['generation']}, the newest is {newest}")
    return job


def moved(job: Job, target: JobState, reason: str) -> Job:
    """In another state. Raises Rejected when it cannot go there."""
    if target != job.state and target not in JOB_TRANSITIONS[job.state]:
        raise Rejected(f"{job.name} is {job.state} and cannot become {target}")
    return replace(job, state=target, reason=reason)


def closed(job: Job) -> Job:
    """Nobody steps in its newest generation any more."""
    if not job.generations:
        return job
    newest = replace(job.generations[-1], closed=True)
    return replace(job, generations=(*job.generations[:-1], newest))


def with_job(state: State, job: Job) -> State:
    return replace(state, jobs={**state.jobs, job.id: job})


def with_room(state: State, job: Job) -> State:
    """For one more, by forgetting those that ended first: only so many are remembered, and the
    files of all jobs' tasks together are bounded. Raises Rejected when those that have not ended
    leave too little room.
    """
    kept = dict(state.jobs)
    ended = [id_ for id_, old in kept.items() if old.is_final]
    for id_ in ended[: max(0, len(ended) + 1 - FINAL_JOBS_MAX)]:
        del kept[id_]
    more = task_bytes(job)
    excess = sum(map(task_bytes, kept.values())) + more - TASK_BYTES_MAX if more else 0
    for id_ in ended:
        if excess > 0 and id_ in kept and (freed := task_bytes(kept[id_])):
            del kept[id_]
            excess -= freed
    if excess > 0:
        raise Rejected(
            f"no room for the files of {job.name} ({more / 1e6:.1f} MB): those of jobs that have "
            f"not ended may have {TASK_BYTES_MAX / 1e6:.0f} MB together; wait for one to end, or "
            "`p2pnode cancel` one"
        )
    return state if len(kept) == len(state.jobs) else replace(state, jobs=kept)


def task_bytes(job: Job) -> int:
    """What the files of its task add to every snapshot; a built-in task has none."""
    files = job.spec.get("task_files") or {}
    return len(job.spec.get("task_source") or b"") + sum(map(len, files.values()))
