"""A job's series over steps instead of time: what TensorBoard shows. Pure."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Points = Sequence[Sequence[float]]  # [at, min, max, mean, last]
Row = tuple[int, float, float]  # step, value, unix time


def over_steps(
    job: str, series: Mapping[str, Mapping[str, Any]], after: float, until: float
) -> Iterator[tuple[str, list[Row]]]:
    """By tag: rows of the points that begin after `after` and before `until`.

    A point's step is the last one applied in its time. Where values of a point differ, its
    greatest and least are beside it, as `loss.max` and `loss.min`.
    """
    prefix = f"job.{job}."
    steps: Points = series.get(f"{prefix}step", {"points": ()})["points"]
    times = [point[0] for point in steps]
    if not steps:
        return
    for name, told in sorted(series.items()):
        tag = name.removeprefix(prefix)
        if tag == name or tag == "step":
            continue
        mine = [point for point in told["points"] if after < point[0] < until]
        at_step = [int(steps[max(0, bisect_right(times, point[0]) - 1)][4]) for point in mine]
        yield tag, [(step, p[3], p[0]) for step, p in zip(at_step, mine, strict=True)]
        if any(point[1] != point[2] for point in mine):
            pairs = list(zip(at_step, mine, strict=True))
            yield f"{tag}.max", [(step, p[2], p[0]) for step, p in pairs]
            yield f"{tag}.min", [(step, p[1], p[0]) for step, p in pairs]
