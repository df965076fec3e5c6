"""The states of a job, and where each may lead. Who only looks at jobs needs no more of the log."""

from typing import Literal

JobState = Literal[
    "queued", "starting", "running", "recovering", "paused", "finished", "failed", "cancelled"
]

# From each state of a job, the states it may go to. The last three are final.
JOB_TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"starting", "paused", "failed", "cancelled"}),
    "starting": frozenset({"running", "recovering", "queued", "paused", "failed", "cancelled"}),
    "running": frozenset({"recovering", "paused", "finished", "failed", "cancelled"}),
    "recovering": frozenset({"running", "paused", "finished", "failed", "cancelled"}),
    "paused": frozenset({"queued", "recovering", "failed", "cancelled"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
FINAL = frozenset(state for state, following in JOB_TRANSITIONS.items() if not following)
