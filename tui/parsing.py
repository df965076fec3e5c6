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
        cluster=fields.record(Cluster, cluster, name=_name(cluster)),
        peers=tuple(_peer(row) for row in fields.rows(answer, "peers")),
        jobs=tuple(_job(row) for row in fields.rows(answer, "jobs")),
    )


def parse_events(answer: Mapping[str, Any]) -> tuple[Event, ...]:
    """The `events` answer, oldest first."""
    return tuple(fields.record(Event, row) for row in fields.rows(answer, "events"))


def parse_detail(job: str, detail: Mapping[str, Any], history: Mapping[str, Any]) -> Detail:
    """The `job` and `history` answers of one job."""
    ledger = list(fields.rows(detail, "ledger"))
    return fields.record(
        Detail,
        detail,
        job=job,
        points=tuple(fields.record(Point, row) for row in fields.rows(history, "points")),
        generations=tuple(
            fields.record(Generation, row) for row in fields.rows(detail, "generations")
        ),
        checkpoints=tuple(
            fields.record(Checkpoint, row) for row in fields.rows(detail, "checkpoints")
        ),
        repeated=sum(fields.whole(row, "repeated") for row in ledger) if ledger else None,
        missing=sum(fields.whole(row, "missing") for row in ledger) if ledger else None,
        is_auto=detail.get("auto") is True,
        options=_pairs(detail, "options"),
        excluded=_pairs(detail, "excluded"),
    )


def _pairs(row: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (clean(str(name)), clean(str(value))) for name, value in fields.table(row, key).items()
    )


def _peer(row: Mapping[str, Any]) -> Peer:
    return fields.record(Peer, row, name=_name(row))


def _job(row: Mapping[str, Any]) -> Job:
    total = fields.number(row, "steps_total")
    return fields.record(
        Job,
        row,
        name=_name(row),
        steps_total=int(total) if total else None,
        accuracy=fields.number(fields.table(row, "metrics"), "accuracy"),
    )


def _name(row: Mapping[str, Any]) -> str:
    return fields.text(row, "name") or fields.text(row, "id")
