"""What the screen asks for beyond status, events and the job: one line per request.

A view names what it needs (tui/views/view.py); only that is asked for, so that a screen costs its
peer what it shows and no more. A request that is refused, or that an older peer does not know, is
remembered as not told, and asked again later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tui import parsing_told as parsing
from tui.told import Sample, Told

SERIES_WINDOW_S = 300.0
SERIES_POINTS_MAX = 600
PREVIEW_ROWS = 12
LATER_INTERVALS = 5.0  # until a refused request is made again


@dataclass(frozen=True, slots=True)
class Wants:
    """What the view needs, and of whom. `series` are names of metrics, as a shell's file names."""

    needs: frozenset[str] = frozenset({"job"})
    peer: str | None = None
    job: str | None = None
    dataset: str | None = None
    series: tuple[str, ...] = ()


Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """`args` None: nothing to ask now. `keep` puts the answer among what is known already.
    `every` in polling intervals.
    """

    need: str
    verb: str
    args: Callable[[Wants, Told, float], dict[str, Any] | None]
    keep: Callable[[Told, Answer, Wants], Told]
    every: float = 1.0


def _none(wants: Wants, told: Told, now_s: float) -> dict[str, Any]:
    return {}


def _series_args(wants: Wants, told: Told, now_s: float) -> dict[str, Any] | None:
    """What came since: the whole window only when another peer, or another view, is looked at."""
    if wants.peer is None or not wants.series:
        return None
    since_s = now_s - SERIES_WINDOW_S
    same = told.series_peer == wants.peer and told.series_names == wants.series
    if same and told.series:
        since_s = max(since_s, max(samples[-1].at for samples in told.series.values()))
    return {"peer": wants.peer, "names": list(wants.series), "since": since_s, "resolution": 1}


def _keep_series(told: Told, answer: Answer, wants: Wants) -> Told:
    known = told.series if told.series_peer == wants.peer else {}
    new = parsing.parse_series(answer)
    merged = {name: _joined(known.get(name, ()), new.get(name, ())) for name in {**known, **new}}
    return replace(
        told,
        series_peer=wants.peer or "",
        series_names=wants.series,
        series={name: samples for name, samples in sorted(merged.items()) if samples},
    )


def _joined(known: tuple[Sample, ...], new: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """The last known point may have been open yet: the newer telling of it counts."""
    if not new:
        return known
    return (*(sample for sample in known if sample.at < new[0].at - 0.5), *new)[-SERIES_POINTS_MAX:]


ASKS: tuple[Ask, ...] = (
    Ask("alerts", "alerts", _none, lambda t, a, w: replace(t, alerts=parsing.parse_alerts(a))),
    Ask("health", "health", _none, lambda t, a, w: replace(t, health=parsing.parse_health(a)), 2),
    Ask(
        *("insights", "insights", _none),
        lambda t, a, w: replace(
            t, insights=parsing.parse_insights(a), scaling=parsing.parse_scaling(a)
        ),
        *(3,),
    ),
    Ask("devices", "peers", _none, lambda t, a, w: replace(t, devices=parsing.parse_devices(a)), 3),
    Ask(
        *("latest", "metrics", lambda w, t, s: {"latest": True}),
        lambda t, a, w: replace(t, latest=parsing.parse_latest(a)),
    ),
    Ask("series", "metrics", _series_args, _keep_series, 2),
    Ask(
        "datasets", "data", _none, lambda t, a, w: replace(t, datasets=parsing.parse_datasets(a)), 2
    ),
    Ask("models", "models", _none, lambda t, a, w: replace(t, models=parsing.parse_models(a))),
    Ask(
        *("shards", "data_shards", lambda w, t, s: {"job": w.job} if w.job else None),
        lambda t, a, w: replace(t, shards=parsing.parse_shards(a)),
    ),
    Ask(
        *("preview", "data_preview"),
        lambda w, t, s: {"name": w.dataset, "limit": PREVIEW_ROWS} if w.dataset else None,
        lambda t, a, w: replace(t, preview=parsing.parse_preview(a) or t.preview),
        *(2,),
    ),
)
NEEDS = frozenset({"job", *(ask.need for ask in ASKS)})
