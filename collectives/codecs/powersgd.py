"""powersgd: every matrix's average gradient as a product of two thin ones, the rest remembered.

Vogels et al., "PowerSGD: practical low-rank gradient compression for distributed optimization",
2019: one step of power iteration on the sum M of the shards' matrices, which nobody has whole. With
a start Q from the step before, P = sum of M_s Q, made orthonormal, then Q = sum of M_s^T P, and
P Q^T is the average. Both sums are int32's, and whatever everybody computes from them is done with
additions in one order (no BLAS): so the bits are the same on all members, and for any membership.

Parameters whose shape makes it worth while, m * n >= 2 * rank * (m + n), are compressed, where n is
the product of all dimensions but the first; the others, and those of one dimension, are sent whole
as int32. Bytes: 4 * rank * (m + n) per matrix on the way of an all-reduce. What the product leaves
out of the average is remembered in equal parts by all shards (feedback.py). Error: with memory,
none over time; in one step, what is not in P's span.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from collectives.blockscale import BLOCK, block_count
from collectives.codecs.codec import Array, Float32s, Group, Scales, Vector
from collectives.codecs.feedback import Remembering
from collectives.codecs.int32 import Int32
from collectives.codecs.small_ints import key
from collectives.kernels.portable import mixed, tiles
from collectives.kernels.products import product

_NEWS = 1e-3  # of the start is random, so that a direction the average lacks is not lost for good
_TILE_VALUES = 1 << 16


@dataclass(frozen=True)
class Matrix:
    """Where one parameter's m * n values lie in the vector, and its factors among the factors."""

    at: int
    m: int
    n: int
    left: slice  # m * rank values
    right: slice  # n * rank values

    def of(self, row: Float32s) -> Float32s:
        return row[self.at : self.at + self.m * self.n].reshape(self.m, self.n)


class PowerSGD(Remembering):
    name = "powersgd"
    order_free = True

    def __init__(self, vector: Vector, option: float) -> None:
        super().__init__(vector, option)
        self.rank = int(option)
        self._matrices, self._whole = _cut(vector, self.rank)
        lefts = self._matrices[-1].left.stop if self._matrices else 0
        rights = self._matrices[-1].right.stop if self._matrices else 0
        whole = sum(part.stop - part.start for part in self._whole)
        self._lefts, self._rest = slice(0, lefts), slice(lefts, lefts + whole)
        # The last value, in a block of its own, counts the shards that took part.
        self._first = Int32(Vector(block_count(lefts + whole) * BLOCK + 1, vector.shards))
        self._second = Int32(Vector(rights, vector.shards))
        self._signs = _signs(rights, vector.seed, -1)
        self._start = self._signs.copy()
        self._took_part = 1

    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        self.recall(rows, numbers)
        firsts = np.zeros((len(rows), self._first.vector.length), np.float32)
        for row, first in zip(rows, firsts, strict=True):
            for matrix in self._matrices:
                left = first[matrix.left].reshape(matrix.m, self.rank)
                product(matrix.of(row), self._right(self._start, matrix), left)
            np.concatenate([row[part] for part in self._whole], out=first[self._rest])
            first[-1] = 1
        summed = np.empty(firsts.shape[1], np.float32)
        if not self._first.reduce(group, firsts, numbers, step, summed):
            return False
        self._took_part = round(float(summed[-1]))
        lefts = [orthonormal(summed[m.left].reshape(m.m, self.rank)) for m in self._matrices]
        seconds = np.zeros((len(rows), self._second.vector.length), np.float32)
        for row, second in zip(rows, seconds, strict=True):
            for matrix, left in zip(self._matrices, lefts, strict=True):
                product(matrix.of(row).T, left, self._right(second, matrix))
        rights = np.empty(seconds.shape[1], np.float32)
        if not self._second.reduce(group, seconds, numbers, step, rights):
            return False
        out.fill(0)
        for matrix, left in zip(self._matrices, lefts, strict=True):
            multiply(left, self._right(rights, matrix), matrix.of(out))
        _deal(summed[self._rest], self._whole, out)
        return True

    def left_out(self, row: Float32s, average: Float32s, out: Float32s) -> None:
        share = np.float32(1 / self._took_part)
        for _, span in tiles(len(row), _TILE_VALUES):
            np.subtract(row[span], average[span] * share, out=out[span])
        for part in self._whole:
            out[part] = 0

    def keep(self, average: Float32s) -> None:
        super().keep(average)
        for matrix in self._matrices:
            start = self._right(self._start, matrix)
            sketch(matrix.of(average), self._right(self._signs, matrix), start)

    def common(self) -> dict[str, Float32s]:
        return {"start": self._start}

    def _right(self, factors: Float32s, matrix: Matrix) -> Float32s:
        return factors[matrix.right].reshape(matrix.n, self.rank)


def _cut(vector: Vector, rank: int) -> tuple[list[Matrix], list[slice]]:
    """The matrices to compress, and the parts of the vector that are sent whole."""
    matrices: list[Matrix] = []
    whole: list[slice] = []
    at = lefts = rights = 0
    for shape in vector.shapes:
        size = prod(shape)
        m = shape[0] if len(shape) > 1 else 1
        n = size // m if m else 0
        if size and size >= 2 * rank * (m + n):
            left, right = slice(lefts, lefts + m * rank), slice(rights, rights + n * rank)
            matrices.append(Matrix(at, m, n, left, right))
            lefts, rights = left.stop, right.stop
        else:
            whole.append(slice(at, at + size))
        at += size
    return matrices, [*whole, slice(at, vector.length)]


def _deal(values: Float32s, parts: list[slice], out: Float32s) -> None:
    at = 0
    for part in parts:
        size = part.stop - part.start
        out[part] = values[at : at + size]
        at += size


def _signs(count: int, seed: int, number: int) -> Float32s:
    """+1 and -1 by chance."""
    hashes = mixed(np.arange(count, dtype=np.uint32), key(seed, 0, number))
    return (np.float32(1) - 2 * (hashes >> np.uint32(31)).astype(np.float32)).astype(np.float32)


def orthonormal(columns: Float32s) -> Float32s:
    """The same span, by modified Gram-Schmidt in float64; a column without news becomes zero."""
    basis = columns.T.astype(np.float64, order="C")
    sizes = np.sqrt((basis * basis).sum(axis=1))
    for number, column in enumerate(basis):
        size = np.sqrt((column * column).sum())
        if size <= 1e-9 * sizes[number]:
            column.fill(0)
            continue
        column /= size
        for other in basis[number + 1 :]:
            other -= (column * other).sum() * column
    return np.ascontiguousarray(basis.T.astype(np.float32))


def multiply(left: Float32s, right: Float32s, out: Float32s) -> None:
    """out[m, n] = left[m, k] @ right[n, k].T, adding in the order of k on every processor."""
    rows, columns = max(1, _TILE_VALUES // max(1, len(right))), np.ascontiguousarray(right.T)
    for start in range(0, len(left), rows):
        tile, piece = out[start : start + rows], left[start : start + rows, :, np.newaxis]
        np.multiply(piece[:, 0], columns[0], out=tile)
        for number in range(1, len(columns)):
            tile += piece[:, number] * columns[number]


def sketch(average: Float32s, signs: Float32s, out: Float32s) -> None:
    """out[n, rank] = the average's rows, dealt to `rank` sums with signs: they span what it spans.

    (A count sketch: Charikar et al., 2002.) From the average alone, so that who got that from
    another goes on with the same start.
    """
    rank = out.shape[1]
    row_signs: Array = np.resize(signs.reshape(-1), len(average))[:, np.newaxis]
    for number in range(rank):
        out[:, number] = (average[number::rank] * row_signs[number::rank]).sum(axis=0)
    size = np.sqrt(np.square(out, dtype=np.float64).mean())
    if size > 0:
        out /= np.float32(size)
    out += np.float32(_NEWS if size > 0 else 1) * signs
