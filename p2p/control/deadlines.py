"""When a trainer or a replica that says nothing new counts as hung: pure.

The deadline adapts to what each kind of work usually takes there, so that neither a slow machine
nor a large model is taken for a hang. Judged on the host of the trainer: only work of its own
counts, not the time that it waits in an exchange for others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# What may take as long as it takes: others are to blame for it, or nobody.
UNJUDGED = frozenset({"wait", "exchange", "write", "loading"})
# The least time that is allowed, and how many times what is usual.
FLOOR_S = 10.0
USUAL_TIMES = 10.0
# A peer that did not run for so long hears only afterwards what its children said meanwhile.
OVERSLEPT_S = 1.0
# What was never done before in this process (a compiler at work, a first look at the data).
FIRST_S = 300.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a child said it was doing, since when, and what that usually takes, in seconds.

    A thread of its own says so twice a second: silence means that the process does not run.
    """

    doing: str
    step: int | None  # None: it has none
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


def hung(last: Pulse, now_s: float, floor_s: float = FLOOR_S) -> str | None:
    """The sentence that says why this child counts as hung, or None."""
    silent_s = max(0.0, now_s - last.heard_s)
    allowed_s = max(floor_s, USUAL_TIMES * (last.usual_s or 0.0))
    if silent_s >= allowed_s:
        where = "" if last.step is None else f", at step {last.step}"
        return f"it hung: no sign of life for {silent_s:.0f} s{where}"
    if last.doing in UNJUDGED:
        return None
    busy_s = last.for_s + silent_s
    doing = last.doing if last.step is None else f"{last.doing} of step {last.step}"
    if last.usual_s is None:
        if busy_s < FIRST_S:
            return None
        return f"it hung: {doing} for {busy_s:.0f} s"
    if busy_s < allowed_s:
        return None
    return f"it hung: {doing} for {busy_s:.0f} s, where {last.usual_s:.2g} s is usual"


class Awake:
    """Whether this peer itself runs: that it heard nobody while it did not says nothing of them."""

    def __init__(self) -> None:
        self._looked_s: float | None = None

    def slept_s(self, now_s: float) -> float:
        """Seconds in which it did not run, since the last call."""
        passed_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        return passed_s if passed_s >= OVERSLEPT_S else 0.0


def heard_later(last: Pulse, by_s: float) -> Pulse:
    return replace(last, heard_s=last.heard_s + by_s)
