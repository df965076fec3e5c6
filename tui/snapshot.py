"""What the screen shows, as immutable values parsed from the contract's JSON (tui/parsing.py)."""

from dataclasses import dataclass, field
from typing import Literal

from p2p.replicated.job_states import FINAL
from tui.told import Told

LinkState = Literal["connecting", "live", "lost"]


class BadAnswer(Exception):
    """The peer answered something that is not the contract's JSON."""


@dataclass(frozen=True, slots=True)
class Cluster:
    id: str
    name: str
    term: int
    leader: str | None
    quorum: bool
    commit_index: int
    applied_index: int


@dataclass(frozen=True, slots=True)
class Peer:
    id: str
    name: str
    address: str
    host: str
    pid: int
    role: str
    state: str
    slots: int
    trainers: int
    replicas: int
    rss: int
    cpu_percent: float
    version: str


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    name: str
    kind: str
    task: str
    state: str
    reason: str
    generation: int
    step: int
    steps_total: int | None
    epoch: int
    samples: int
    loss: float | None
    accuracy: float | None
    samples_per_second: float
    members: tuple[str, ...]
    shards: int
    strategy: str
    codec: str
    state_hash: str | None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def done(self) -> float | None:
        """The fraction of steps done, None while the total is unknown."""
        return min(1.0, self.step / self.steps_total) if self.steps_total else None

    def eta_s(self) -> float | None:
        """Seconds to its end at the present speed; None while that cannot be said."""
        if self.steps_total is None or not (self.step and self.samples):
            return None
        left = (self.steps_total - self.step) * self.samples / self.step
        return left / self.samples_per_second if self.samples_per_second > 0 else None


@dataclass(frozen=True, slots=True)
class Status:
    view_from: str
    age: float
    cluster: Cluster
    peers: tuple[Peer, ...]
    jobs: tuple[Job, ...]

    def peer(self, peer_id: str | None) -> Peer | None:
        return next((peer for peer in self.peers if peer.id == peer_id), None)

    def job(self, job_id: str | None) -> Job | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def name_of(self, peer_id: str | None) -> str:
        peer = self.peer(peer_id)
        return peer.name if peer else (peer_id or "none")


@dataclass(frozen=True, slots=True)
class Event:
    index: int
    at: float
    kind: str
    severity: str
    text: str
    peer: str | None
    job: str | None


@dataclass(frozen=True, slots=True)
class Point:
    step: int
    loss: float | None
    accuracy: float | None
    samples_per_second: float | None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    members: tuple[str, ...]
    start_step: int | None
    reason: str
    stall_seconds: float | None
    steps_repeated: int
    strategy: str = ""
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    step: int
    path: str
    bytes: int
    seconds: float | None
    count: int
    peer: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One job's curve and changes. `repeated` and `missing` are samples over all epochs."""

    job: str
    points: tuple[Point, ...] = ()
    generations: tuple[Generation, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    repeated: int | None = None
    missing: int | None = None
    bytes_per_step: float | None = None
    compression: float | None = None
    is_auto: bool = False
    options: tuple[tuple[str, str], ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """How we are connected. `received_s` and `retry_at_s` are monotonic, `received_at` is Unix."""

    state: LinkState = "connecting"
    address: str = ""
    error: str = ""
    attempt: int = 0
    retry_at_s: float = 0.0
    received_s: float | None = None
    received_at: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All the screen knows at one moment; the screen is a function of it."""

    link: Link = field(default_factory=Link)
    status: Status | None = None
    events: tuple[Event, ...] = ()
    detail: Detail | None = None
    told: Told = field(default_factory=Told)


def shown_job(status: Status | None, chosen: str | None) -> Job | None:
    """The chosen job while it exists, else the newest that has trainers, else the newest that
    waits for some, else the newest at all; one that serves only where none trains.
    """
    if status is None or not status.jobs:
        return None
    jobs = [job for job in status.jobs if job.kind != "serve"] or list(status.jobs)
    waiting = [job for job in jobs if not job.is_final]
    training = [job for job in waiting if job.members]
    return status.job(chosen) or (training or waiting or jobs)[-1]
