"""From the contract's JSON to what the screen shows (tui/snapshot.py).

The JSON comes from a peer that may be newer or older than we are: only an answer without the lists
that make it a status at all raises BadAnswer; see tui/fields.py for the rest.
"""

from collections.abc import Mapping
from typing import Any

from tui import fields
from tui.snapshot import (
    BadAnswer,
    Checkpoint,
    Cluster,
    Detail,
    Event,
    Generation,
    Job,
    Peer,
    Point,
    Status,
)
from tui.text import clean


def parse_status(answer: Mapping[str, Any]) -> Status:
    """The `status` answer. Raises BadAnswer if it has no cluster, peers or jobs."""
    cluster = answer.get("cluster")
    if not isinstance(cluster, dict):
        raise BadAnswer("the peer's status names no cluster: is its version newer than this one?")
    for part in ("peers", "jobs"):
        if not isinstance(answer.get(part), list):
            raise BadAnswer(f"the peer's status has no list of {part}: versions do not match?")
    return Status(
        view_from=fields.text(answer, "view_from"),
        age=fields.number(answer, "age") or 0.0,
        cluster=Cluster(
            id=fields.text(cluster, "id"),
            name=fields.text(cluster, "name") or fields.text(cluster, "id"),
            term=fields.whole(cluster, "term"),
            leader=fields.text(cluster, "leader") or None,
            quorum=cluster.get("quorum") is True,
            commit_index=fields.whole(cluster, "commit_index"),
            applied_index=fields.whole(cluster, "applied_index"),
        ),
        peers=tuple(_peer(row) for row in fields.rows(answer, "peers")),
        jobs=tuple(_job(row) for row in fields.rows(answer, "jobs")),
    )


def parse_events(answer: Mapping[str, Any]) -> tuple[Event, ...]:
    """The `events` answer, oldest first."""
    return tuple(
        Event(
            index=fields.whole(row, "index"),
            at=fields.number(row, "at") or 0.0,
            kind=fields.text(row, "kind"),
            severity=fields.text(row, "severity"),
            text=fields.text(row, "text"),
            peer=fields.text(row, "peer") or None,
            job=fields.text(row, "job") or None,
        )
        for row in fields.rows(answer, "events")
    )


def parse_detail(job: str, detail: Mapping[str, Any], history: Mapping[str, Any]) -> Detail:
    """The `job` and `history` answers of one job."""
    ledger = list(fields.rows(detail, "ledger"))
    return Detail(
        job=job,
        points=tuple(
            Point(
                step=fields.whole(row, "step"),
                loss=fields.number(row, "loss"),
                accuracy=fields.number(row, "accuracy"),
                samples_per_second=fields.number(row, "samples_per_second"),
                at=fields.number(row, "at"),
            )
            for row in fields.rows(history, "points")
        ),
        generations=tuple(_generation(row) for row in fields.rows(detail, "generations")),
        checkpoints=tuple(_checkpoint(row) for row in fields.rows(detail, "checkpoints")),
        repeated=sum(fields.whole(row, "repeated") for row in ledger) if ledger else None,
        missing=sum(fields.whole(row, "missing") for row in ledger) if ledger else None,
        bytes_per_step=fields.number(detail, "bytes_per_step"),
        compression=fields.number(detail, "compression"),
        is_auto=detail.get("auto") is True,
        options=_pairs(detail, "options"),
        excluded=_pairs(detail, "excluded"),
    )


def _pairs(row: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (clean(str(name)), clean(str(value))) for name, value in fields.table(row, key).items()
    )


def _generation(row: Mapping[str, Any]) -> Generation:
    return Generation(
        number=fields.whole(row, "number"),
        members=fields.texts(row, "members"),
        start_step=None if row.get("start_step") is None else fields.whole(row, "start_step"),
        reason=fields.text(row, "reason"),
        stall_seconds=fields.number(row, "stall_seconds"),
        steps_repeated=fields.whole(row, "steps_repeated"),
        strategy=fields.text(row, "strategy"),
        codec=fields.text(row, "codec"),
    )


def _checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        step=fields.whole(row, "step"),
        path=fields.text(row, "path"),
        bytes=fields.whole(row, "bytes"),
        seconds=fields.number(row, "seconds"),
        count=fields.whole(row, "count"),
        peer=fields.text(row, "peer"),
    )


def _peer(row: Mapping[str, Any]) -> Peer:
    return Peer(
        id=fields.text(row, "id"),
        name=fields.text(row, "name") or fields.text(row, "id"),
        address=fields.text(row, "address"),
        host=fields.text(row, "host"),
        pid=fields.whole(row, "pid"),
        role=fields.text(row, "role"),
        state=fields.text(row, "state"),
        slots=fields.whole(row, "slots"),
        trainers=fields.whole(row, "trainers"),
        replicas=fields.whole(row, "replicas"),
        rss=fields.whole(row, "rss"),
        cpu_percent=fields.number(row, "cpu_percent") or 0.0,
        version=fields.text(row, "version"),
    )


def _job(row: Mapping[str, Any]) -> Job:
    metrics = row.get("metrics")
    total = fields.number(row, "steps_total")
    return Job(
        id=fields.text(row, "id"),
        name=fields.text(row, "name") or fields.text(row, "id"),
        kind=fields.text(row, "kind"),
        task=fields.text(row, "task"),
        state=fields.text(row, "state"),
        reason=fields.text(row, "reason"),
        generation=fields.whole(row, "generation"),
        step=fields.whole(row, "step"),
        steps_total=int(total) if total else None,
        epoch=fields.whole(row, "epoch"),
        samples=fields.whole(row, "samples"),
        loss=fields.number(row, "loss"),
        accuracy=fields.number(metrics, "accuracy") if isinstance(metrics, dict) else None,
        samples_per_second=fields.number(row, "samples_per_second") or 0.0,
        members=fields.texts(row, "members"),
        shards=fields.whole(row, "shards"),
        strategy=fields.text(row, "strategy"),
        codec=fields.text(row, "codec"),
        state_hash=fields.text(row, "state_hash") or None,
    )
