"""A job's curve over its steps: loss, accuracy or throughput; dotted where a generation begins."""

from collections.abc import Callable
from dataclasses import dataclass

from tui import curve, text
from tui.pane import Box, Drawn, Pane, Record, plain_lines
from tui.panes.plot import GUTTER, Plot, fits, plotted, smoothed
from tui.scene import CHARTS, Line, Scene
from tui.snapshot import Job, Point


@dataclass(frozen=True, slots=True)
class Curve:
    """What a chart draws. `floor` and `ceiling` bound its axis where they bound the data;
    `from_zero`: the axis begins at 0, so that a dip looks as deep as it is.
    """

    name: str
    tone: str
    of: Callable[[Point], float | None]
    now: Callable[[Job], str]
    tick: Callable[[float], str]
    floor: float | None = 0.0
    ceiling: float | None = None
    from_zero: bool = False


def tick(value: float) -> str:
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.2f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 0.1 else f"{value:.0e}"


CURVES = {
    "loss": Curve("loss", "loss", lambda p: p.loss, lambda j: text.number(j.loss), tick),
    "accuracy": Curve(
        "accuracy",
        "accuracy",
        lambda p: p.accuracy,
        lambda j: text.percent(j.accuracy),
        lambda v: text.percent(v, 0 if v >= 0.9995 else 1),
        ceiling=1.0,
    ),
    "throughput": Curve(
        "samples/s",
        "throughput",
        lambda p: p.samples_per_second,
        lambda j: text.rate(j.samples_per_second),
        text.short_count,
        from_zero=True,
    ),
}


def axis_end(last_step: float, steps_total: int | None) -> float:
    """Where the axis ends: the whole job, halved until the curve fills at least half of it.

    So a young curve is large enough to read, and the axis moves only when the curve doubles.
    """
    end = max(last_step, float(steps_total or 0), 1.0)
    while end / 2 >= max(last_step, 1.0):
        end /= 2
    return end


class CurvePane(Pane):
    """Which curve it draws is `kind`, a key of CURVES; None: the one chosen with the key c."""

    def __init__(self, kind: str | None = None, after: int = 0) -> None:
        self.id = f"curve-{kind or after}"
        self._kind, self._after = kind, after

    def _curve(self, scene: Scene) -> Curve:
        chosen = CHARTS[(CHARTS.index(scene.chart) + self._after) % len(CHARTS)]
        return CURVES[self._kind or chosen]

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        shown, job = self._curve(scene), scene.job
        smooth = f", smoothed {scene.smoothing:g}" if scene.smoothing else ""
        return shown.name + smooth, [(shown.now(job), shown.tone)] if job is not None else []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        shown, job, detail = self._curve(scene), scene.job, scene.detail
        points = [
            (float(point.step), value)
            for point in (detail.points if detail else ())
            if (value := shown.of(point)) is not None
        ]
        if not points or job is None or not fits(box.width, box.height):
            why = "waiting for the first point" if job and not job.is_final else "no points"
            return plain_lines([[(" " * GUTTER + ("no job" if job is None else why), "faint")]])
        values = [y for _, y in points] + [0.0] * shown.from_zero
        floor = shown.floor if shown.floor is not None and min(values) >= shown.floor else None
        across = curve.Span(0.0, axis_end(points[-1][0], job.steps_total))
        generations = detail.generations[1:] if detail else ()
        plot = Plot(
            points=smoothed(points, scene.smoothing) if scene.smoothing else points,
            across=across,
            up=curve.span(values, floor, shown.ceiling),
            tone=shown.tone,
            tick=shown.tick,
            axis=("0", f"step {across.high:,.0f}"),
            raw=points if scene.smoothing else (),
            marks=[float(made.start_step) for made in generations if made.start_step is not None],
        )
        return plain_lines(plotted(scene, plot, box.width, box.height))

    def records(self, scene: Scene) -> list[Record]:
        shown, detail = self._curve(scene), scene.detail
        if detail is None:
            return []
        return [
            {"job": detail.job, "step": point.step, "at": point.at, shown.name: shown.of(point)}
            for point in detail.points
        ]


CHOSEN = tuple(CurvePane(after=after) for after in range(len(CHARTS)))
