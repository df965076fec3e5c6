"""A line chart as lines: gutter with three labels, braille rows, marks, and an axis below. Pure."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tui import curve, text
from tui.scene import Line, Scene

GUTTER = 7
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Plot:
    """`raw` is drawn faintly behind `points` (as the curve without smoothing). `marks` are columns
    with a dotted line, given as x. `axis` are the texts at the left and right end below.
    """

    points: Points
    across: curve.Span
    up: curve.Span
    tone: str
    tick: Callable[[float], str]
    axis: tuple[str, str]
    raw: Points = ()
    marks: Collection[float] = ()


def plotted(scene: Scene, plot: Plot, width: int, height: int) -> list[Line]:
    """`height` lines; at least 3 × GUTTER + 8 cells are needed (see `fits`)."""
    plot_width, plot_height = width - GUTTER, height - 1
    rows = _rows(scene, plot.points, plot, plot_width, plot_height)
    behind = _rows(scene, plot.raw, plot, plot_width, plot_height) if plot.raw else []
    marks = {min(plot_width - 1, int(plot.across.at(x) * (plot_width - 1))) for x in plot.marks}
    lines: list[Line] = []
    for y, row in enumerate(rows):
        label = text.fit(_label(plot, y, plot_height), GUTTER - 1, "right")
        under = behind[y] if behind else ""
        lines.append([(label, "faint"), (" ", "faint"), *_row(scene, row, under, marks, plot.tone)])
    left, right = plot.axis
    gap = " " * max(1, plot_width - len(left) - len(right))
    lines.append([(" " * GUTTER + left + gap + right, "faint")])
    return lines


def fits(width: int, height: int) -> bool:
    return height >= 3 and width >= GUTTER + 8


def smoothed(points: Points, weight: float) -> list[tuple[float, float]]:
    """The exponential moving average that TensorBoard and wandb draw: 0 ≤ weight < 1, with the
    bias of its beginning taken out.
    """
    made, last, debias = [], 0.0, 1.0
    for x, y in points:
        last, debias = weight * last + (1 - weight) * y, debias * weight
        made.append((x, last / (1 - debias) if debias < 1 else y))
    return made


def _rows(scene: Scene, points: Points, plot: Plot, width: int, height: int) -> list[str]:
    return curve.draw(points, plot.across, plot.up, width, height).rows(scene.ascii_only)


def _row(scene: Scene, row: str, behind: str, marks: set[int], tone: str) -> Line:
    if not marks and not behind:
        return [(row, tone)]
    line: Line = []
    for x, character in enumerate(row):
        span = (character, tone)
        if character == " " and behind and behind[x] != " ":
            span = (behind[x], "faint")
        elif character == " " and x in marks:
            span = (scene.pick("┊", "|"), "faint")
        if line and line[-1][1] == span[1]:
            line[-1] = (line[-1][0] + span[0], span[1])
        else:
            line.append(span)
    return line


def _label(plot: Plot, y: int, height: int) -> str:
    if y == 0:
        return plot.tick(plot.up.high)
    if y == height - 1:
        return plot.tick(plot.up.low)
    if height >= 7 and y == height // 2:
        return plot.tick((plot.up.high + plot.up.low) / 2)
    return ""
