"""What rules, health and insights see: one moment of the cluster, as one peer knows it. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from itertools import takewhile
from typing import Literal

from p2p.replicated.state import Event, Generation, Job, Mark, Member, State
from p2p.view import RaftView, Vitals

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")  # the mildest first
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Figure:
    """The newest value of one metric of one peer; names are those of p2p.measure."""

    peer: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Facts:
    """`now_s` is the monotonic clock of the peer that looks, `unix_s` its wall clock.

    `latest`: by peer, the newest value of each metric that this peer has heard of.
    """

    now_s: float
    unix_s: float
    state: State
    raft: RaftView
    vitals: Mapping[str, Vitals] = field(default_factory=dict)
    latest: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def name(self, peer: str | None) -> str:
        member = self.state.members.get(peer or "")
        return member.name if member else str(peer)

    @property
    def peers(self) -> list[Member]:
        """Those that should run: who left is nobody's loss."""
        return [member for member in self.state.members.values() if member.state != "left"]

    def answers(self, peer: str) -> bool:
        """Whether it is alive by the log, and was heard of lately."""
        member = self.state.members.get(peer)
        alive = member is not None and member.state == "alive"
        return alive and not self.vitals.get(peer, Vitals()).suspect

    @property
    def spare_voters(self) -> int:
        """How many more voters may fail while a majority is left; negative: it is lost."""
        voters = self.raft.voters
        return sum(map(self.answers, voters)) - (len(voters) // 2 + 1)

    @property
    def running(self) -> list[Job]:
        return [job for job in self.state.jobs.values() if job.state == "running"]

    def events(self, within_s: float) -> Iterator[Event]:
        """Those of the last seconds, the newest first."""
        oldest_s = self.unix_s - within_s
        return takewhile(lambda event: event.at_s >= oldest_s, reversed(self.state.events))

    def figures(self, pattern: str) -> Iterator[Figure]:
        """Of all peers that answer, those metrics whose name fits, as a shell's file names do."""
        wild = is_wild(pattern)
        for peer, values in self.latest.items():
            if not self.answers(peer):
                continue
            if not wild:
                if pattern in values:
                    yield Figure(peer, pattern, values[pattern])
                continue
            for metric, value in values.items():
                if fits(pattern, metric):
                    yield Figure(peer, metric, value)


def is_wild(pattern: str) -> bool:
    return _WILD.search(pattern) is not None


@lru_cache(16_384)  # asked once a second for every metric of every peer
def fits(pattern: str, metric: str) -> bool:
    return _compiled(pattern)(metric) is not None


@lru_cache(256)
def _compiled(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


@dataclass(frozen=True, slots=True)
class Stretch:
    """A generation and the marks that were made in it."""

    generation: Generation
    marks: tuple[Mark, ...]


def stretches(job: Job) -> list[Stretch]:
    """The generations that have made a step, in order; a mark belongs to the newest that had begun
    before it."""
    begun = [made for made in job.generations if made.start_step is not None]
    found: list[list[Mark]] = [[] for _ in begun]
    at = len(begun) - 1
    for mark in reversed(job.marks):
        while at >= 0 and (begun[at].start_step or 0) >= mark.step > 0:
            at -= 1
        if at < 0:
            break
        found[at].append(mark)
    return [Stretch(made, tuple(reversed(marks))) for made, marks in zip(begun, found, strict=True)]
