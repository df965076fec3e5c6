"""Averages that up to f of n contributors cannot spoil, and who of them stands apart. Pure numpy.

A contribution is a row of float32 values (or float64 below 1e150); all rows of one call have the
same length. Rows may be segments of longer ones: `separations` of the segments add up to those of
the whole, from which Krum chooses and suspects are found.

median, trimmed mean: coordinate by coordinate. With n > 2f every value lies between two values of
    honest contributors, whatever f others send (Yin et al. 2018, arXiv 1803.01498).
Krum: the contribution whose n-f-2 nearest others are nearest; multi-Krum: the average of the m that
    do best, m <= n-f-2. Needs n > 2f+2 (Blanchard et al., NeurIPS 2017).

One contributor, one vote: weights (sample counts) never decide who is trimmed or chosen, else one
with much weight could outvote the rest; they only weigh the mean of what is left. A contribution
with a NaN or Inf anywhere is garbage as a whole: leave it out, and expect one faulty less.

Bits: a function of the values and of the order of contributors. Extra memory: 32 bytes per
contributor and value of one block (COLUMNS), however long the rows are.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Rule = Literal["median", "trimmed", "krum"]
RULES: tuple[Rule, ...] = ("median", "trimmed", "krum")

Rows = Sequence[npt.NDArray[Any]]
Float64s = npt.NDArray[np.float64]

COLUMNS = 8_192  # per block: that of 9 contributors fits into a core's cache
FAR = 16.0  # times the usual squared distance (4 times the distance) is far from the rest


def needed(rule: Rule, faulty: int) -> int:
    """How many contributors the rule needs to tolerate so many faulty ones."""
    return 2 * faulty + (3 if rule == "krum" else 1)


def mean(rows: Rows, weights: Sequence[float], out: npt.NDArray[Any]) -> None:
    """out = the mean of the rows by weight; ValueError if no row has any."""
    trimmed_mean(rows, weights, 0, out)


def median(rows: Rows, out: npt.NDArray[Any]) -> None:
    """out = the middle value of each column, of an even number the mean of the middle two."""
    _check(rows, out)
    lower, upper = (len(rows) - 1) // 2, len(rows) // 2
    for at in _blocks(out):
        columns = _sorted([row[at] for row in rows])
        # In float64, where two large ones cannot add up to Inf; + 0.0 makes every zero positive.
        out[at] = np.add(columns[lower], columns[upper], dtype=np.float64) * 0.5 + 0.0


def trimmed_mean(rows: Rows, weights: Sequence[float], faulty: int, out: npt.NDArray[Any]) -> None:
    """out = the mean by weight of each column's values from the (faulty+1)-th smallest to the
    (faulty+1)-th largest, and of those equal to these."""
    _check(rows, out)
    if len(rows) <= 2 * faulty or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"{len(rows)} contributions of weights {weights} leave nothing to average")
    for at in _blocks(out):
        columns = [row[at] for row in rows]
        total, weight = np.zeros(len(columns[0])), np.zeros(len(columns[0]))
        if faulty:
            in_order = _sorted(columns)
            low, high = in_order[faulty], in_order[-1 - faulty]
        for column, by in zip(columns, weights, strict=True):
            share = by * ((column >= low) & (column <= high)) if faulty else np.float64(by)
            weight += share
            total += column * share
        # What is left may be weightless (contributors without samples): then it has no say.
        out[at] = np.divide(total, weight, out=total, where=weight > 0) + 0.0


def separations(rows: Rows) -> Float64s:
    """float64[n, n]: squared distances between contributions; on the diagonal squared norms.

    Segments add up. A contribution with a NaN or Inf has no finite norm (see `finite`).
    """
    found = np.zeros((len(rows), len(rows)))
    if not rows:
        return found
    _check(rows, rows[0])
    with np.errstate(invalid="ignore", over="ignore"):
        for at in _blocks(rows[0]):
            columns = [row[at].astype(np.float64) for row in rows]
            for i, column in enumerate(columns):
                found[i, i] += np.square(column).sum()
            for i, j in combinations(range(len(rows)), 2):
                apart = columns[i] - columns[j]
                found[i, j] += np.square(apart, out=apart).sum()
    upper = np.triu(found, 1)
    return found + upper.T


def finite(apart: Float64s) -> list[int]:
    """Who sent only finite numbers, by `separations` of whole contributions."""
    return [int(index) for index in np.flatnonzero(np.isfinite(np.diagonal(apart)))]


def krum(apart: Float64s, faulty: int, keep: int | None = None) -> list[int]:
    """The contributions multi-Krum averages, in ascending order; 1 = Krum itself.

    `apart` as from `separations`, of finite contributions only. `keep` None = the most that the
    proof allows, n-f-2.
    """
    count = len(apart)
    if count < needed("krum", faulty):
        raise ValueError(f"krum with {faulty} faulty needs {needed('krum', faulty)}, not {count}")
    nearest = count - faulty - 2
    keep = nearest if keep is None else keep
    if not 1 <= keep <= nearest:
        raise ValueError(f"krum of {count} with {faulty} faulty keeps 1 to {nearest}, not {keep}")
    scores = [
        math.fsum(sorted(float(apart[i, j]) for j in range(count) if j != i)[:nearest])
        for i in range(count)
    ]
    ranking = sorted(range(count), key=lambda index: (scores[index], index))
    return sorted(ranking[:keep])


def oddness(apart: Float64s, weights: Sequence[float]) -> list[float]:
    """How far each contribution is from the rest, as a multiple of what is usual among them.

    Squared distances, each divided by the variance that two means of so many samples may have
    (1/w_i + 1/w_j): a trainer of few samples lies farther off without being faulty. A contributor's
    distance is the lower median of those to the others; usual is the lower median of these: with
    n > 2f both are honest ones'. inf for garbage, 0 for the weightless. Above FAR: suspicious.
    """
    judged = [index for index in finite(apart) if weights[index] > 0]
    odd = [0.0 if math.isfinite(apart[i, i]) else math.inf for i in range(len(weights))]
    if len(judged) < 3:
        return odd  # of two that differ, nobody can tell which is right
    typical = {}
    for i in judged:
        far = [apart[i, j] / (1 / weights[i] + 1 / weights[j]) for j in judged if j != i]
        typical[i] = _lower_median(far)
    usual = _lower_median(typical.values())
    # Below this it is rounding: contributions may well be equal.
    floor = 1e-12 * _lower_median(apart[i, i] * weights[i] for i in judged)
    for i in judged:
        if typical[i] > floor:
            odd[i] = typical[i] / max(usual, floor) if max(usual, floor) > 0 else math.inf
    return odd


def suspicious(odd: Sequence[float]) -> list[int]:
    """Who is far from the rest, by `oddness`."""
    return [index for index, value in enumerate(odd) if value > FAR]


def _lower_median(values: Any) -> float:
    ordered = sorted(float(value) for value in values)
    return ordered[(len(ordered) - 1) // 2]


def _sorted(columns: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The same values, every column in ascending order; the arguments are left alone.

    Batcher's network for any number of inputs, on whole blocks: numpy compares each in one call.
    """
    columns = [column.copy() for column in columns]
    spare = np.empty_like(columns[0])
    for i, j in _comparators(len(columns)):
        np.minimum(columns[i], columns[j], out=spare)
        np.maximum(columns[i], columns[j], out=columns[j])
        columns[i], spare = spare, columns[i]
    return columns


def _blocks(row: npt.NDArray[Any]) -> Iterator[slice]:
    return (slice(at, at + COLUMNS) for at in range(0, len(row), COLUMNS))


def _check(rows: Rows, out: npt.NDArray[Any]) -> None:
    if not rows or any(row.ndim != 1 or len(row) != len(out) for row in rows):
        shapes = [row.shape for row in rows]
        raise ValueError(f"contributions of shapes {shapes} do not make an average of {out.shape}")


def _comparators(count: int) -> Iterator[tuple[int, int]]:
    """Batcher's merge exchange (Knuth 5.2.2, algorithm M): after all compare-exchanges (i, j),
    i < j, the inputs are sorted."""
    if count < 2:
        return
    top = 1 << ((count - 1).bit_length() - 1)
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(count - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
