"""What a rule is, and what it finds. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from p2p.watch.facts import Facts, Severity

# What health is made of; every rule concerns one of them.
Part = Literal["agreement", "peers", "training", "machines"]


@dataclass(frozen=True, slots=True)
class Finding:
    """That a condition holds now. `metric` and `value` are what was compared; `place`: where, if
    one rule may find several things of one peer or job (a metric's name)."""

    text: str
    metric: str
    value: float
    peer: str | None = None
    job: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """`check(facts, limit)` finds where the condition holds.

    It fires when `check(…, threshold)` has found the same for `for_s` seconds, and is resolved when
    `check(…, clear)`, the easier one to stay within, has not for `clear_s`. The two limits are
    equal where there is nothing between well and ill. `command`: what would help.
    """

    name: str
    severity: Severity
    part: Part
    meaning: str
    check: Callable[[Facts, float], Iterable[Finding]]
    threshold: float = 1.0
    clear: float = 1.0
    for_s: float = 0.0
    clear_s: float = 2.0
    command: str = ""

    def id_of(self, found: Finding) -> str:
        """The same on every peer, so that an acknowledgement can be agreed."""
        named = (self.name, found.peer, found.job, found.place)
        return "/".join(text for text in named if text)
