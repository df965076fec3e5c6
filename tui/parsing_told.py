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
            fields.text(row, "device"),
            tuple(fields.record(Gpu, gpu) for gpu in fields.rows(row, "gpus")),
        )
        for row in fields.rows(answer, "peers")
    }


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
    return tuple(fields.record(Alert, row) for row in fields.rows(answer, "alerts"))


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
        tuple(fields.record(Part, part) for part in fields.rows(row, "parts")),
    )


def parse_insights(answer: Answer) -> tuple[Insight, ...]:
    return tuple(
        fields.record(Insight, row, value=_shown(row, "value"), threshold=_shown(row, "threshold"))
        for row in fields.rows(answer, "insights")
    )


def parse_scaling(answer: Answer) -> dict[str, tuple[Speed, ...]]:
    """The other part of `insights`: by job, the fewest trainers first."""
    return {
        fields.text(row, "job"): tuple(
            fields.record(Speed, speed) for speed in fields.rows(row, "speeds")
        )
        for row in fields.rows(answer, "scaling")
    }


def _shown(row: Answer, key: str) -> str:
    value = fields.number(row, key)
    return fields.text(row, key) if value is None else f"{value:.4g}"


def parse_datasets(answer: Answer) -> tuple[Dataset, ...]:
    return tuple(
        fields.record(Dataset, row, registrar=fields.text(row, "peer"))
        for row in fields.rows(answer, "datasets")
    )


def parse_models(answer: Answer) -> tuple[Model, ...]:
    return tuple(_model(row) for row in fields.rows(answer, "models"))


def _model(row: Answer) -> Model:
    made = fields.table(row, "model")
    return fields.record(
        Model,
        row,
        name=fields.text(row, "name") or fields.text(row, "id"),
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
    )


def parse_shards(answer: Answer) -> Shards:
    return fields.record(
        Shards,
        answer,
        rows=tuple(
            fields.record(ShardRow, row, name=fields.text(row, "name") or fields.text(row, "peer"))
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
