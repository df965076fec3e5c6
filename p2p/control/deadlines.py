"""When a trainer that says nothing new counts as hung: pure.

The deadline adapts to what each kind of work usually takes there, so that neither a slow machine
nor a large model is taken for a hang. Judged on the host of the trainer: only work of its own
counts, not the time that it waits in an exchange for others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What may take as long as it takes: others are to blame for it, or nobody.
UNJUDGED = frozenset({"wait", "exchange", "write"})
# The least time that is allowed, and how many times what is usual.
FLOOR_S = 10.0
USUAL_TIMES = 10.0
# What was never done before in this process (a compiler at work, a first look at the data).
FIRST_S = 300.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a trainer said it was doing, since when, and what that usually takes, in seconds.

    A thread of its own says so twice a second: silence means that the process does not run.
    """

    doing: str
    step: int
    for_s: float
    usual_s: float | None
    heard_s: float


def pulse(message: Mapping[str, Any], heard_s: float) -> Pulse:
    """From a message that p2p.reports.check_trainer_message has checked."""
    usual = message["usual_s"]
    return Pulse(
        str(message["doing"]),
        int(message["step"]),
        float(message["for_s"]),
        None if usual is None else float(usual),
        heard_s,
    )


def hung(last: Pulse, now_s: float) -> str | None:
    """The sentence that says why this trainer counts as hung, or None."""
    silent_s = max(0.0, now_s - last.heard_s)
    allowed_s = max(FLOOR_S, USUAL_TIMES * (last.usual_s or 0.0))
    if silent_s >= allowed_s:
        return f"it hung: no sign of life for {silent_s:.0f} s, at step {last.step}"
    if last.doing in UNJUDGED:
        return None
    busy_s = last.for_s + silent_s
    if last.usual_s is None:
        if busy_s < FIRST_S:
            return None
        return f"it hung: {last.doing} of step {last.step} for {busy_s:.0f} s"
    if busy_s < allowed_s:
        return None
    usual = f"{last.usual_s:.2g} s is usual"
    return f"it hung: {last.doing} of step {last.step} for {busy_s:.0f} s, where {usual}"
