"""What people do to training jobs while everything breaks, each at any peer that runs."""

from typing import TYPE_CHECKING, Any

from p2p.replicated.state import Job
from tools.sim.requests import ask

if TYPE_CHECKING:
    from tools.sim.faults import Nemesis

JOBS_MAX = 6  # all must be over in the time that healing has
STEERING = {"pause": 3, "resume": 4, "checkpoint": 3, "set": 2, "restore": 1, "cancel": 0.2}


class Operators:
    """They stop when the faults do; `follow` then does what the cluster asks of people."""

    def __init__(self, nemesis: "Nemesis") -> None:
        self._nemesis = nemesis
        nemesis.later(nemesis.seconds(1.0), self._submit)
        nemesis.later(nemesis.seconds(4.0), self._steer)

    def _submit(self) -> None:
        nemesis = self._nemesis
        host = nemesis.someone()
        if host is not None and len(host.state().jobs) < JOBS_MAX:
            ask(host, "submit", task="digits")
        nemesis.later(nemesis.seconds(5.0), self._submit)

    def _steer(self) -> None:
        nemesis, rng = self._nemesis, self._nemesis.rng
        nemesis.later(nemesis.seconds(1.5), self._steer)
        host = nemesis.someone()
        jobs = list(host.state().jobs.values()) if host is not None else []
        if host is None or not jobs:
            return
        verb = rng.choices(list(STEERING), list(STEERING.values()))[0]
        more: dict[str, Any] = {}
        if verb == "set":
            more = {"changes": {"codec": rng.choice(("int32", "int16", "int8"))}}
        if verb != "restore" or len(jobs) < JOBS_MAX:
            nemesis.world.counts[f"operator: {verb}"] += 1
            ask(host, verb, job=rng.choice(jobs).id, **more)


def remedy(job: Job) -> str | None:
    """The verb that the job's own sentence asks people for, if it asks."""
    if f"`p2pnode cancel {job.id}`" in job.reason:
        return "cancel"
    return "resume" if job.state == "paused" else None
