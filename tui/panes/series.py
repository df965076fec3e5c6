"""Histories of measurements: minimum, maximum and mean over the last minutes, one pane each."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from tui import curve, text
from tui.pane import Box, Drawn, Pane, Record, plain_lines, untold
from tui.panes.plot import Plot, fits, plotted
from tui.scene import Line, Scene
from tui.told import Sample

GAP_INTERVALS = 5  # a longer silence is drawn as a gap, not as a flat line


@dataclass(frozen=True, slots=True)
class Measure:
    """`names`: which metrics, as a shell's file names; the job's id stands where <job> does.
    Of several that fit the largest is shown. `factor` brings values into the unit of `show`.
    """

    title: str
    names: str
    show: Callable[[float], str]
    tone: str = "throughput"
    ceiling: float | None = None


def _percent(value: float) -> str:
    return f"{value:.0f}%"


def _seconds(value: float) -> str:
    return text.seconds(value) if value else "0"


def _bytes(value: float) -> str:
    return text.memory(int(value)) if value >= 1 else "0"


def _rate(value: float) -> str:
    return text.rate(value) if value else "0"


CPU = Measure("cpu of the host", "system.cpu_percent", _percent, "loss", 100.0)
MEMORY = Measure("memory of the host", "system.memory_bytes", _bytes, "accuracy")
RSS = Measure("memory of the peer", "process.rss_bytes", _bytes, "accuracy")
GPU = Measure("gpu busy", "gpu.*.busy_percent", _percent, "loss", 100.0)
SENT = Measure("network sent /s", "system.net_sent_bytes_per_s", _bytes)
ROUND_TRIP = Measure("round trip", "link.*.round_trip_s", _seconds, "loss")
STEP = Measure("step", "job.<job>.step_s", _seconds, "loss")
BARRIER = Measure("barrier", "job.<job>.barrier_s", _seconds, "loss")
SPEED = Measure("samples/s", "job.<job>.samples_per_s", text.short_count)
WIRE = Measure("wire /s", "job.<job>.wire_bytes_per_s", _bytes)
COMMITS = Measure("commits/s", "raft.commits_per_s", text.short_count)
COMMIT_LATENCY = Measure("commit latency", "raft.commit_latency_s", _seconds, "loss")
REQUESTS = Measure("requests/s", "process.requests_per_s", text.short_count)
PROMPTS = Measure("prompts/s", "serve.*.requests_per_s", _rate)
FIRST_TOKEN = Measure("first token", "serve.*.first_token_s", _seconds, "loss")
ANSWER = Measure("answer", "serve.*.answer_s", _seconds, "loss")
TOKENS = Measure("tokens/s", "serve.*.tokens_per_s", text.short_count)
CHECKPOINT = Measure("checkpoint bytes/s", "checkpoint.bytes_per_s", _bytes, "accuracy")
LAG = Measure("loop lag", "process.loop_lag_s", _seconds, "loss")


class SeriesPane(Pane):
    """One measure of the peer whose histories were asked for."""

    def __init__(self, measure: Measure) -> None:
        self.id = f"series-{measure.title}"
        self._measure = measure

    def is_measured(self, scene: Scene) -> bool:
        return bool(self._samples(scene))

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        samples = self._samples(scene)
        if not samples:
            return self._measure.title, []
        peak = max(sample.high for sample in samples)
        show = self._measure.show
        return self._measure.title, [
            (show(samples[-1].mean), self._measure.tone),
            (f", peak {show(peak)}", "dim"),
        ]

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        samples = self._samples(scene)
        if not samples or not fits(box.width, box.height):
            why = "not measured by this peer" if scene.told.series else untold(scene, "metrics")
            return plain_lines([[(why, "faint")]])
        points = _drawn_points(samples)
        last, first = samples[-1].at, samples[0].at
        across = curve.Span(min(first, last - 60.0), last)
        values = [y for _, y in points] + [0.0]
        plot = Plot(
            points=points,
            across=across,
            up=curve.span(values, 0.0, self._measure.ceiling),
            tone=self._measure.tone,
            tick=self._measure.show,
            axis=(f"{scene.pick('−', '-')}{text.seconds(last - across.low)}", "now"),
        )
        return plain_lines(plotted(scene, plot, box.width, box.height))

    def records(self, scene: Scene) -> list[Record]:
        return [
            {
                "peer": scene.told.series_peer,
                "measure": self._measure.title,
                "at": sample.at,
                "low": sample.low,
                "high": sample.high,
                "mean": sample.mean,
            }
            for sample in self._samples(scene)
        ]

    def _samples(self, scene: Scene) -> tuple[Sample, ...]:
        job = scene.job
        wanted = self._measure.names.replace("<job>", job.id if job else "none")
        series = scene.told.series
        found = [series[name] for name in series if fnmatchcase(name, wanted)]
        return max(found, key=lambda samples: samples[-1].mean if samples else -1.0, default=())


def _drawn_points(samples: tuple[Sample, ...]) -> list[tuple[float, float]]:
    """Both extremes of every sample; not a number where nothing was heard for long."""
    apart = [b.at - a.at for a, b in pairwise(samples)]
    usual = sorted(apart)[len(apart) // 2] if apart else 1.0
    points: list[tuple[float, float]] = []
    for before, sample in zip((None, *samples), samples, strict=False):
        if before is not None and sample.at - before.at > GAP_INTERVALS * usual:
            points.append(((before.at + sample.at) / 2, float("nan")))
        points += [(sample.at, sample.low), (sample.at, sample.high)]
    return points


def panes(measures: tuple[Measure, ...]) -> list[SeriesPane]:
    return [SeriesPane(measure) for measure in measures]


def names(measures: tuple[Measure, ...]) -> tuple[str, ...]:
    return tuple(measure.names for measure in measures)
