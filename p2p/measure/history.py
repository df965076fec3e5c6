"""Bounded histories that keep the peaks. Pure: time comes in with what is recorded.

Every series is kept twice: a point per second for ten minutes, and one per ten seconds for six
hours. A point is the least, the greatest, the mean and the last value of its time, so that a peak
of one sample is in both. Numbers are kept as float32 (seven digits) in arrays; a series in which
no point had two different values keeps one number per point.

At most SERIES_MAX series: about 14 MB where all are full, 50 KB each.
"""

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

RESOLUTIONS_S = (1, 10)
KEPT = {1: 600, 10: 2160}  # points per series, by seconds per point
SERIES_MAX = 256
FORGOTTEN_AFTER_S = 60.0  # a series without news for so long may make room for another
FLOAT32_MAX = 3.4e38


@dataclass(frozen=True, slots=True)
class Summary:
    """Several values as one. `count` of them; all finite."""

    low: float
    high: float
    mean: float
    last: float
    count: int = 1

    @staticmethod
    def of(value: float) -> "Summary":
        return Summary(value, value, value, value)

    def and_then(self, later: "Summary") -> "Summary":
        count = self.count + later.count
        # So that the mean of equal numbers is that number.
        mean = self.mean + (later.mean - self.mean) * (later.count / count)
        low, high = min(self.low, later.low), max(self.high, later.high)
        return Summary(low, high, min(max(mean, low), high), later.last, count)

    @property
    def is_finite(self) -> bool:
        numbers = (self.low, self.high, self.mean, self.last)
        return all(math.isfinite(number) and abs(number) < FLOAT32_MAX for number in numbers)


class Point(NamedTuple):
    """`at_s` = where its time begins."""

    at_s: float
    low: float
    high: float
    mean: float
    last: float


class Tier:
    """One series at one resolution. Times never go back: what comes late counts as now."""

    __slots__ = ("_apart_s", "_columns", "_kept", "_numbers", "_oldest", "_open", "_open_number")

    def __init__(self, apart_s: int, kept: int) -> None:
        self._apart_s, self._kept = apart_s, kept
        self._numbers = array("I")  # of the points' times, at_s // apart_s
        # last; and once some point had two values also low, high, mean
        self._columns = [array("f")]
        self._oldest = 0  # where in the arrays, once they are full
        self._open_number = -1
        self._open: Summary | None = None

    def add(self, at_s: float, told: Summary) -> None:
        number = max(0, int(at_s // self._apart_s), self._open_number)
        if self._open is None:
            self._open = told
        elif number == self._open_number:
            self._open = self._open.and_then(told)
        else:
            self._keep(self._open)
            self._open = told
        self._open_number = number

    def points(self, since_s: float) -> list[Point]:
        """Oldest first; those whose time ends after `since_s`."""
        apart_s, oldest = self._apart_s, self._oldest
        numbers = self._numbers[oldest:] + self._numbers[:oldest]
        last, *rest = (column[oldest:] + column[:oldest] for column in self._columns)
        first = bisect_right(numbers, since_s / apart_s - 1)
        columns = [column[first:] for column in (*(rest or [last] * 3), last)]
        found = [
            Point(number * apart_s, *values)
            for number, *values in zip(numbers[first:], *columns, strict=True)
        ]
        now, number = self._open, self._open_number
        if now is not None and (number + 1) * apart_s > since_s:
            found.append(Point(number * apart_s, now.low, now.high, now.mean, now.last))
        return found

    def __len__(self) -> int:
        return len(self._numbers) + (self._open is not None)

    @property
    def bytes_kept(self) -> int:
        values = sum(len(column) * column.itemsize for column in self._columns)
        return values + len(self._numbers) * self._numbers.itemsize

    def _keep(self, done: Summary) -> None:
        if len(self._columns) == 1 and done.low != done.high:
            self._columns += [array("f", self._columns[0]) for _ in range(3)]
        values = (done.last, done.low, done.high, done.mean)[: len(self._columns)]
        if len(self._numbers) < self._kept - 1:  # the open one is a point as well
            self._numbers.append(self._open_number)
            for column, value in zip(self._columns, values, strict=True):
                column.append(value)
            return
        at = self._oldest
        self._numbers[at] = self._open_number
        for column, value in zip(self._columns, values, strict=True):
            column[at] = value
        self._oldest = (at + 1) % len(self._numbers)


class Series:
    __slots__ = ("last", "latest_s", "tiers")

    def __init__(self) -> None:
        self.tiers = {apart_s: Tier(apart_s, KEPT[apart_s]) for apart_s in RESOLUTIONS_S}
        self.latest_s, self.last = 0.0, 0.0

    def add(self, at_s: float, told: Summary) -> None:
        self.latest_s, self.last = max(at_s, self.latest_s), told.last
        for tier in self.tiers.values():
            tier.add(at_s, told)


class Histories:
    """By name. `refused` = how many records had no room."""

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._max = series_max
        self._series: dict[str, Series] = {}
        self.refused = 0

    def record(self, name: str, at_s: float, told: Summary | float) -> None:
        """A number that is not finite is no measurement, and is not kept."""
        summary = told if isinstance(told, Summary) else Summary.of(told)
        if not summary.is_finite:
            return
        series = self._series.get(name)
        if series is None:
            if len(self._series) >= self._max and not self._forget_one(at_s):
                self.refused += 1
                return
            series = self._series[name] = Series()
        series.add(at_s, summary)

    def record_all(self, at_s: float, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.record(name, at_s, value)

    def latest(self, since_s: float) -> dict[str, float]:
        """The last value of every series that has one not older than `since_s`."""
        return {n: series.last for n, series in self._series.items() if series.latest_s >= since_s}

    def matching(self, globs: Iterable[str]) -> list[str]:
        """Sorted. `*` stands for anything, dots too."""
        wanted = list(globs)
        return [n for n in sorted(self._series) if any(fnmatchcase(n, glob) for glob in wanted)]

    def points(self, name: str, resolution_s: int, since_s: float) -> list[Point]:
        """Raises KeyError for a name or a resolution that there is not."""
        return self._series[name].tiers[resolution_s].points(since_s)

    def __len__(self) -> int:
        return len(self._series)

    @property
    def bytes_kept(self) -> int:
        every = self._series.values()
        return sum(tier.bytes_kept for series in every for tier in series.tiers.values())

    def _forget_one(self, now_s: float) -> bool:
        """Make room: the series that was not told of for longest, but none that is in use."""
        oldest = min(self._series, key=lambda name: self._series[name].latest_s)
        if now_s - self._series[oldest].latest_s < FORGOTTEN_AFTER_S:
            return False
        del self._series[oldest]
        return True
