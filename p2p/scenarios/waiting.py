"""What a step still waits for: pure rules over the newest answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p2p.errors import P2PError
from p2p.replicated.job_states import FINAL
from p2p.scenarios.scenario import Wait

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """The job's answer now and when the wait began (None: no job is waited for), the cluster's
    status, all events so far, and the insights of now."""

    job: Told | None
    first: Told | None
    status: Told
    events: tuple[str, ...]
    insights: tuple[str, ...] = ()


def missing(wait: Wait, seen: Seen, named: Callable[[str], str]) -> str:
    """In words, "" if all is so. `named` puts peers' names into a text.

    Raises P2PError when it never will: the job has ended otherwise.
    """
    lacks = [*_of_job(wait, seen, named), *_of_cluster(wait, seen, named)]
    job = seen.job
    if lacks and job is not None and job["state"] in FINAL:
        why = f": {job['reason']}" if job["reason"] else ""
        raise P2PError(f"{wait.job} {job['state']}{why}, before {' and '.join(lacks)}")
    return " and ".join(lacks)


def _of_job(wait: Wait, seen: Seen, named: Callable[[str], str]) -> Iterator[str]:
    job, first = seen.job, seen.first
    if job is None or first is None:
        return
    if wait.state is not None and job["state"] != wait.state:
        yield f"{wait.job} to be {wait.state} (it is {job['state']})"
    if wait.share is not None and job["step"] < wait.share * (job["steps_total"] or 1e18):
        yield f"{wait.share:.0%} of the steps of {wait.job} (it is at step {job['step']})"
    if wait.steps is not None and job["step"] < first["step"] + wait.steps:
        yield f"{wait.steps} more steps of {wait.job} (it is at step {job['step']})"
    if wait.members is not None and not (
        len(job["members"]) == wait.members and job["state"] in ("running", *FINAL)
    ):
        yield f"{wait.members} trainers of {wait.job} (there are {len(job['members'])})"
    reasons = [one["reason"] for one in job["generations"][-1:]]
    if wait.reason is not None and not any(named(wait.reason) in text for text in reasons):
        yield f"a generation of {wait.job} because {named(wait.reason)!r} (the newest: {reasons})"
    if wait.strategy is not None and job["strategy"] != wait.strategy:
        yield f"{wait.job} to use {wait.strategy} (it uses {job['strategy']})"


def _of_cluster(wait: Wait, seen: Seen, named: Callable[[str], str]) -> Iterator[str]:
    peers = {peer["id"]: peer["name"] for peer in seen.status["peers"]}
    alive = sum(peer["state"] == "alive" for peer in seen.status["peers"])
    if wait.alive is not None and alive != wait.alive:
        yield f"{wait.alive} living peers (there are {alive})"
    voters = sum(
        peer["state"] == "alive" and peer["role"] != "learner" for peer in seen.status["peers"]
    )
    if wait.voters is not None and voters != wait.voters:
        yield f"{wait.voters} living voters (there are {voters})"
    leads = peers.get(seen.status["cluster"]["leader"], "nobody")
    if wait.leads is not None and leads != named("{" + wait.leads + "}").strip("{}"):
        yield f"{wait.leads} to lead ({leads} leads)"
    other = None if wait.not_leads is None else named("{" + wait.not_leads + "}").strip("{}")
    if other is not None and leads in (other, "nobody"):
        yield f"another leader than {other} ({leads} leads)"
    if wait.event is not None and not any(named(wait.event) in text for text in seen.events):
        yield f"an event that says {named(wait.event)!r}"
    if wait.insight is not None and not any(wait.insight in text for text in seen.insights):
        yield f"an insight that says {wait.insight!r}"
