"""A curve over steps: loss, accuracy or throughput, with a dotted line at every new generation."""

from collections.abc import Callable
from dataclasses import dataclass

from tui import curve, text
from tui.scene import Line
from tui.snapshot import Job, Point
from tui.widgets.pane import Pane

GUTTER = 7


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


def _tick(value: float) -> str:
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.2f}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 0.1 else f"{value:.0e}"


CURVES = {
    "loss": Curve("loss", "loss", lambda p: p.loss, lambda j: text.number(j.loss), _tick),
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


class ChartPane(Pane):
    """Which curve it draws is `kind`, a key of CURVES."""

    def __init__(self, id: str, kind: str) -> None:
        super().__init__(id=id)
        self.kind = kind

    def title(self, width: int) -> tuple[str, Line]:
        shown, job = CURVES[self.kind], self.scene.job
        return shown.name, [(shown.now(job), shown.tone)] if job is not None else []

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        shown, job, detail = CURVES[self.kind], self.scene.job, self.scene.detail
        points = [
            (float(point.step), value)
            for point in (detail.points if detail else ())
            if (value := shown.of(point)) is not None
        ]
        if not points or job is None or height < 3 or width < GUTTER + 8:
            why = "waiting for the first point" if job and not job.is_final else "no points"
            return [([(" " * GUTTER + "no job" if job is None else why, "faint")], "background")]
        across = curve.Span(0.0, axis_end(points[-1][0], job.steps_total))
        values = [y for _, y in points] + [0.0] * shown.from_zero
        floor = shown.floor if shown.floor is not None and min(values) >= shown.floor else None
        up = curve.span(values, floor, shown.ceiling)
        plot_width, plot_height = width - GUTTER, height - 1
        canvas = curve.draw(points, across, up, plot_width, plot_height)
        rows = canvas.rows(self.scene.ascii_only)
        marks = self._generation_columns(across, plot_width)
        lines = []
        for y, row in enumerate(rows):
            label = self._label(shown, up, y, plot_height)
            line: Line = [(text.fit(label, GUTTER - 1, "right"), "faint"), (" ", "faint")]
            lines.append(([*line, *self._plot(row, marks, shown.tone)], "background"))
        lines.append((self._axis(across, plot_width), "background"))
        return lines

    def _generation_columns(self, across: curve.Span, width: int) -> set[int]:
        generations = self.scene.detail.generations if self.scene.detail else ()
        steps = [made.start_step for made in generations[1:] if made.start_step is not None]
        return {min(width - 1, int(across.at(step) * (width - 1))) for step in steps}

    def _plot(self, row: str, marks: set[int], tone: str) -> Line:
        """The row, with a dotted line in blank cells where a generation begins."""
        line: Line = []
        for x, character in enumerate(row):
            span = (character, tone)
            if character == " " and x in marks:
                span = (self.scene.pick("┊", "|"), "faint")
            if line and line[-1][1] == span[1]:
                line[-1] = (line[-1][0] + span[0], span[1])
            else:
                line.append(span)
        return line

    def _label(self, shown: Curve, up: curve.Span, y: int, height: int) -> str:
        if y == 0:
            return shown.tick(up.high)
        if y == height - 1:
            return shown.tick(up.low)
        if height >= 7 and y == height // 2:
            return shown.tick((up.high + up.low) / 2)
        return ""

    def _axis(self, across: curve.Span, width: int) -> Line:
        right = f"step {across.high:,.0f}"
        return [(" " * GUTTER + "0" + " " * max(1, width - 1 - len(right)) + right, "faint")]
