"""From the JSON of the optional requests to what the screen shows (tui/told.py)."""

from collections.abc import Mapping
from typing import Any

from p2p.verbs.pictures import picture
from tui import fields
from tui.text import clean
from tui.told import (
    Alert,
    Dataset,
    Device,
    Gpu,
    Insight,
    Model,
    Part,
    Preview,
    PreviewRow,
    Sample,
    Score,
    ShardRow,
    Shards,
    Speed,
)

Answer = Mapping[str, Any]
WORDS_MAX = 160


def parse_devices(answer: Answer) -> dict[str, Device]:
    """The `peers` answer, of which only what `status` does not tell is kept."""
    return {
        fields.text(row, "id"): Device(
            fields.text(row, "device"), tuple(_gpu(gpu) for gpu in fields.rows(row, "gpus"))
        )
        for row in fields.rows(answer, "peers")
    }


def _gpu(row: Answer) -> Gpu:
    return Gpu(
        name=fields.text(row, "name"),
        memory_used=fields.whole(row, "memory_used"),
        memory_total=fields.whole(row, "memory_total"),
        utilization=fields.number(row, "utilization"),
    )


def parse_latest(answer: Answer) -> dict[str, dict[str, float]]:
    """`metrics` with latest: {peer: {name: value}}."""
    told = fields.table(answer, "latest")
    return {
        clean(str(peer)): {
            clean(str(name)): value
            for name, raw in values.items()
            if (value := fields.finite(raw)) is not None
        }
        for peer, values in told.items()
        if isinstance(values, dict)
    }


def parse_series(answer: Answer) -> dict[str, tuple[Sample, ...]]:
    """`metrics` of one peer: for every name its points, [at, least, greatest, mean, last]."""
    return {
        clean(str(name)): tuple(
            sample for row in told["points"] if (sample := _sample(row)) is not None
        )
        for name, told in fields.table(answer, "series").items()
        if isinstance(told, dict) and isinstance(told.get("points"), list)
    }


def _sample(row: object) -> Sample | None:
    if not isinstance(row, list | tuple) or len(row) < 4:
        return None
    at, low, high, mean = (fields.finite(value) for value in row[:4])
    if at is None or low is None or high is None or mean is None:
        return None
    return Sample(at, low, high, mean)


def parse_alerts(answer: Answer) -> tuple[Alert, ...]:
    return tuple(
        Alert(
            id=fields.text(row, "id"),
            rule=fields.text(row, "rule"),
            severity=fields.text(row, "severity"),
            peer=fields.text(row, "peer") or None,
            job=fields.text(row, "job") or None,
            since=fields.number(row, "since"),
            text=fields.text(row, "text"),
            acknowledged=bool(row.get("acknowledged")),
            resolved_at=fields.number(row, "resolved_at"),
        )
        for row in fields.rows(answer, "alerts")
    )


def parse_health(answer: Answer) -> tuple[Score, ...]:
    """The cluster's score first, then each peer's."""
    cluster = fields.table(answer, "cluster")
    whole = (_score(cluster, None),) if cluster else ()
    return (*whole, *(_score(row, _peer_of(row)) for row in fields.rows(answer, "peers")))


def _peer_of(row: Answer) -> str:
    return fields.text(row, "peer") or fields.text(row, "id")


def _score(row: Answer, peer: str | None) -> Score:
    return Score(
        peer,
        fields.number(row, "score") or 0.0,
        tuple(
            Part(
                fields.text(part, "name"),
                fields.number(part, "points") or 0.0,
                fields.number(part, "of") or 0.0,
                fields.text(part, "why"),
            )
            for part in fields.rows(row, "parts")
        ),
    )


def parse_insights(answer: Answer) -> tuple[Insight, ...]:
    return tuple(
        Insight(
            text=fields.text(row, "text"),
            metric=fields.text(row, "metric"),
            value=_shown(row, "value"),
            threshold=_shown(row, "threshold"),
            command=fields.text(row, "command"),
        )
        for row in fields.rows(answer, "insights")
    )


def parse_scaling(answer: Answer) -> dict[str, tuple[Speed, ...]]:
    """The other part of `insights`: by job, the fewest trainers first."""
    return {
        fields.text(row, "job"): tuple(
            Speed(
                fields.whole(speed, "trainers"),
                fields.number(speed, "samples_per_second") or 0.0,
                fields.number(speed, "efficiency") or 0.0,
            )
            for speed in fields.rows(row, "speeds")
        )
        for row in fields.rows(answer, "scaling")
    }


def _shown(row: Answer, key: str) -> str:
    value = fields.number(row, key)
    return fields.text(row, key) if value is None else f"{value:.4g}"


def parse_datasets(answer: Answer) -> tuple[Dataset, ...]:
    return tuple(
        Dataset(
            name=fields.text(row, "name"),
            format=fields.text(row, "format"),
            samples=None if row.get("samples") is None else fields.whole(row, "samples"),
            bytes=fields.whole(row, "bytes"),
            files=fields.whole(row, "files"),
            here=fields.text(row, "here"),
            content=fields.text(row, "content"),
            path=fields.text(row, "path"),
            registrar=fields.text(row, "peer"),
        )
        for row in fields.rows(answer, "datasets")
    )


def parse_models(answer: Answer) -> tuple[Model, ...]:
    return tuple(_model(row) for row in fields.rows(answer, "models"))


def _model(row: Answer) -> Model:
    made = fields.table(row, "model")
    return Model(
        id=fields.text(row, "id"),
        name=fields.text(row, "name") or fields.text(row, "id"),
        source=fields.text(row, "source"),
        state=fields.text(row, "state"),
        reason=fields.text(row, "reason"),
        target=fields.whole(row, "target"),
        revision=fields.whole(row, "revision"),
        step=fields.whole(row, "step"),
        parameters=fields.whole(made, "parameters") or None,
        context=fields.whole(made, "context") or None,
        replicas=tuple(
            (
                fields.text(replica, "peer"),
                fields.text(replica, "peer_name") or fields.text(replica, "peer"),
                fields.text(replica, "replica"),
                fields.whole(replica, "revision"),
            )
            for replica in fields.rows(row, "replicas")
        ),
        loading=fields.texts(row, "loading"),
    )


def parse_shards(answer: Answer) -> Shards:
    return Shards(
        job=fields.text(answer, "job"),
        step=fields.whole(answer, "step"),
        epoch=fields.whole(answer, "epoch"),
        shards=fields.whole(answer, "shards"),
        train_samples=fields.whole(answer, "train_samples"),
        global_batch=fields.whole(answer, "global_batch"),
        samples=fields.pair(answer, "samples"),
        rows=tuple(
            ShardRow(
                fields.text(row, "peer"),
                fields.text(row, "name") or fields.text(row, "peer"),
                fields.pair(row, "shards"),
                fields.pair(row, "samples"),
            )
            for row in fields.rows(answer, "peers")
        ),
    )


def parse_preview(answer: Answer) -> Preview | None:
    """None while a child of the peer still reads."""
    found = answer.get("found")
    if not isinstance(found, dict):
        return None
    return Preview(
        fields.text(answer, "name"), tuple(_preview_row(row) for row in fields.rows(found, "rows"))
    )


def _preview_row(row: Answer) -> PreviewRow:
    where = fields.text(row, "file") or f"{fields.text(row, 'split')}[{fields.whole(row, 'index')}]"
    words, drawn = [], ""
    for name, value in fields.table(row, "fields").items():
        made = picture(value)
        if made is None:
            words.append(f"{name} {str(value)[:WORDS_MAX]}")
        elif not drawn:
            drawn = made
    lines = tuple(clean(line) for line in drawn.split("\n")) if drawn else ()
    return PreviewRow(where, clean(" · ".join(words)), lines)
