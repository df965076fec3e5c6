"""A job in the replicated state: found, fenced, moved from state to state, put back. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2p.replicated.journal import Rejected
from p2p.replicated.state import JOB_TRANSITIONS, Job, JobState, State

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
