"""What peers tell beyond the status: measurements, alerts, health, insights, data.

All of it is optional: an older peer does not know some of the requests. `Told.untold` then has the
peer's own sentence, and the screen says so where the values would be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_used: int
    memory_total: int
    utilization: float | None


@dataclass(frozen=True, slots=True)
class Device:
    """What a peer's trainers compute on."""

    device: str
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of a history: `at` is Unix time; the extremes within its interval are kept."""

    at: float
    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class Alert:
    id: str
    rule: str
    severity: str
    peer: str | None
    job: str | None
    since: float | None
    text: str
    acknowledged: bool
    resolved_at: float | None

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None


@dataclass(frozen=True, slots=True)
class Part:
    """Why a score is what it is: `points` of `of`."""

    name: str
    points: float
    of: float
    why: str


@dataclass(frozen=True, slots=True)
class Score:
    """Health from 0 to 100; `peer` None = the cluster's."""

    peer: str | None
    score: float
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Insight:
    text: str
    metric: str
    value: str
    threshold: str
    command: str


@dataclass(frozen=True, slots=True)
class Dataset:
    name: str
    format: str
    samples: int | None
    bytes: int
    files: int
    here: str
    content: str
    path: str
    registrar: str


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A peer's part of the current step: [first, last) of shards and of samples."""

    peer: str
    name: str
    shards: tuple[int, int]
    samples: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shards:
    job: str
    step: int
    epoch: int
    shards: int
    train_samples: int
    global_batch: int
    samples: tuple[int, int]
    rows: tuple[ShardRow, ...] = ()


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One sample: where it is, its fields in words, and what is a picture as lines."""

    where: str
    words: str
    picture: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    dataset: str
    rows: tuple[PreviewRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Speed:
    """What so many trainers made; `efficiency` against the fewest that were measured."""

    trainers: int
    samples_per_second: float
    efficiency: float


@dataclass(frozen=True, slots=True)
class Model:
    """One that is served. `replicas` are (peer, its name, replica, revision of the weights);
    `loading` are peers whose replica cannot answer yet.
    """

    id: str
    name: str
    source: str
    state: str
    reason: str
    target: int
    revision: int
    step: int
    parameters: int | None
    context: int | None
    replicas: tuple[tuple[str, str, str, int], ...] = ()
    loading: tuple[str, ...] = ()

    @property
    def is_chat(self) -> bool:
        """Made for conversations; others only go on with a text."""
        return self.source.startswith("hf:")


@dataclass(frozen=True, slots=True)
class Told:
    """`latest` by peer and metric; `series` of `series_peer` by metric, as they were asked for by
    `series_names`; `untold` by request.
    """

    devices: Mapping[str, Device] = field(default_factory=dict)
    latest: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    series_peer: str = ""
    series_names: tuple[str, ...] = ()
    series: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    alerts: tuple[Alert, ...] | None = None
    health: tuple[Score, ...] | None = None
    insights: tuple[Insight, ...] | None = None
    scaling: Mapping[str, tuple[Speed, ...]] = field(default_factory=dict)  # by job
    datasets: tuple[Dataset, ...] | None = None
    shards: Shards | None = None
    preview: Preview | None = None
    models: tuple[Model, ...] | None = None
    untold: Mapping[str, str] = field(default_factory=dict)

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        return tuple(alert for alert in self.alerts or () if alert.is_open)

    def model(self, model_id: str | None) -> Model | None:
        return next((model for model in self.models or () if model.id == model_id), None)

    def score_of(self, peer: str | None) -> Score | None:
        return next((score for score in self.health or () if score.peer == peer), None)


def shown_model(told: Told, chosen: str | None) -> Model | None:
    """The chosen model while it is served, else the first."""
    return told.model(chosen) or next(iter(told.models or ()), None)
