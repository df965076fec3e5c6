"""What the screen shows, as immutable values parsed from the contract's JSON.

The JSON comes from a peer that may be newer or older than we are: unknown fields are ignored,
missing or ill-typed ones read as unknown, and only an answer without the lists that make it a
status at all raises BadAnswer.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from p2p.state import FINAL
from tui.text import clean

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
    state_hash: str | None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def done(self) -> float | None:
        """The fraction of steps done, None while the total is unknown."""
        return min(1.0, self.step / self.steps_total) if self.steps_total else None


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


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    members: tuple[str, ...]
    start_step: int | None
    reason: str
    stall_seconds: float | None
    steps_repeated: int


@dataclass(frozen=True, slots=True)
class Detail:
    """One job's curve and changes. `repeated` and `missing` are samples over all epochs."""

    job: str
    points: tuple[Point, ...] = ()
    generations: tuple[Generation, ...] = ()
    checkpoints: int = 0
    repeated: int | None = None
    missing: int | None = None


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


def parse_status(answer: Mapping[str, Any]) -> Status:
    """The `status` answer. Raises BadAnswer if it has no cluster, peers or jobs."""
    cluster = answer.get("cluster")
    if not isinstance(cluster, dict):
        raise BadAnswer("the peer's status names no cluster: is its version newer than this one?")
    for part in ("peers", "jobs"):
        if not isinstance(answer.get(part), list):
            raise BadAnswer(f"the peer's status has no list of {part}: versions do not match?")
    return Status(
        view_from=_text(answer, "view_from"),
        age=_number(answer, "age") or 0.0,
        cluster=Cluster(
            id=_text(cluster, "id"),
            name=_text(cluster, "name") or _text(cluster, "id"),
            term=_whole(cluster, "term"),
            leader=_text(cluster, "leader") or None,
            quorum=cluster.get("quorum") is True,
            commit_index=_whole(cluster, "commit_index"),
            applied_index=_whole(cluster, "applied_index"),
        ),
        peers=tuple(_peer(row) for row in _rows(answer, "peers")),
        jobs=tuple(_job(row) for row in _rows(answer, "jobs")),
    )


def parse_events(answer: Mapping[str, Any]) -> tuple[Event, ...]:
    """The `events` answer, oldest first."""
    return tuple(
        Event(
            index=_whole(row, "index"),
            at=_number(row, "at") or 0.0,
            kind=_text(row, "kind"),
            severity=_text(row, "severity"),
            text=_text(row, "text"),
            peer=_text(row, "peer") or None,
            job=_text(row, "job") or None,
        )
        for row in _rows(answer, "events")
    )


def parse_detail(job: str, detail: Mapping[str, Any], history: Mapping[str, Any]) -> Detail:
    """The `job` and `history` answers of one job."""
    ledger = list(_rows(detail, "ledger"))
    return Detail(
        job=job,
        points=tuple(
            Point(
                step=_whole(row, "step"),
                loss=_number(row, "loss"),
                accuracy=_number(row, "accuracy"),
                samples_per_second=_number(row, "samples_per_second"),
            )
            for row in _rows(history, "points")
        ),
        generations=tuple(
            Generation(
                number=_whole(row, "number"),
                members=_texts(row, "members"),
                start_step=None if row.get("start_step") is None else _whole(row, "start_step"),
                reason=_text(row, "reason"),
                stall_seconds=_number(row, "stall_seconds"),
                steps_repeated=_whole(row, "steps_repeated"),
            )
            for row in _rows(detail, "generations")
        ),
        checkpoints=len(list(_rows(detail, "checkpoints"))),
        repeated=sum(_whole(row, "repeated") for row in ledger) if ledger else None,
        missing=sum(_whole(row, "missing") for row in ledger) if ledger else None,
    )


def shown_job(status: Status | None, chosen: str | None) -> Job | None:
    """The chosen job while it exists, else the newest that runs, else the newest at all."""
    if status is None or not status.jobs:
        return None
    active = [job for job in status.jobs if not job.is_final]
    return status.job(chosen) or (active or list(status.jobs))[-1]


def _peer(row: Mapping[str, Any]) -> Peer:
    return Peer(
        id=_text(row, "id"),
        name=_text(row, "name") or _text(row, "id"),
        address=_text(row, "address"),
        host=_text(row, "host"),
        pid=_whole(row, "pid"),
        role=_text(row, "role"),
        state=_text(row, "state"),
        slots=_whole(row, "slots"),
        trainers=_whole(row, "trainers"),
        replicas=_whole(row, "replicas"),
        rss=_whole(row, "rss"),
        cpu_percent=_number(row, "cpu_percent") or 0.0,
        version=_text(row, "version"),
    )


def _job(row: Mapping[str, Any]) -> Job:
    metrics = row.get("metrics")
    total = _number(row, "steps_total")
    return Job(
        id=_text(row, "id"),
        name=_text(row, "name") or _text(row, "id"),
        kind=_text(row, "kind"),
        task=_text(row, "task"),
        state=_text(row, "state"),
        reason=_text(row, "reason"),
        generation=_whole(row, "generation"),
        step=_whole(row, "step"),
        steps_total=int(total) if total else None,
        epoch=_whole(row, "epoch"),
        samples=_whole(row, "samples"),
        loss=_number(row, "loss"),
        accuracy=_number(metrics, "accuracy") if isinstance(metrics, dict) else None,
        samples_per_second=_number(row, "samples_per_second") or 0.0,
        members=_texts(row, "members"),
        shards=_whole(row, "shards"),
        state_hash=_text(row, "state_hash") or None,
    )


def _rows(answer: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    rows = answer.get(key)
    return (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else iter(())


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return clean(value) if isinstance(value, str) else ""


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(clean(item) for item in value if isinstance(item, str))


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(row: Mapping[str, Any], key: str) -> int:
    value = _number(row, key)
    return 0 if value is None else int(value)
