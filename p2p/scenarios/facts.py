"""What was seen while a scenario played: what its checks look at. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Told = Mapping[str, Any]


class BadCheck(Exception):
    """The scenario asks for something that never was there."""


@dataclass(slots=True)
class Facts:
    """What was seen. `jobs`: the last answer about each, by the scenario's name for it; `names`: of
    peers, by id; `called`: peers' ids by the names that steps gave; `leaders`: who said in
    which term that it leads."""

    jobs: dict[str, Told] = field(default_factory=dict)
    undisturbed: dict[str, Told] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    leaders: dict[int, set[str]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    writes: dict[str, str | None] = field(default_factory=dict)  # why it was refused; None: taken
    reads: dict[str, str | None] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    insights: list[str] = field(default_factory=list)  # as a step waited for one

    def job(self, name: str) -> Told:
        if name not in self.jobs:
            raise BadCheck(f"no step submits a job {name!r}")
        return self.jobs[name]

    def id_of(self, peer: str) -> str:
        for id_, name in self.names.items():
            if name == peer:
                return id_
        if peer not in self.called:
            raise BadCheck(f"no step starts or names a peer {peer!r}")
        return self.called[peer]


def named(text: str, facts: Facts) -> str:
    """The text with each {NAME} that a step gave replaced by the peer's own name."""
    for name, id_ in facts.called.items():
        text = text.replace("{" + name + "}", facts.names.get(id_, id_))
    return text
