"""How the ranks' values are combined, element by element: operations and number types.

`fold` takes all ranks' values at once, in rank order, so every algorithm that has them at hand gets
the same bits. float32 and float64 round after every addition. The half types (float16, bfloat16)
are added up (multiplied, averaged) in float32 and rounded once: an error of at most half a unit in
the last place of the result, plus that of the float32 sum. Integers wrap around.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from collectives import kernels

Array = np.ndarray[Any, Any]

BFLOAT16 = "bfloat16"  # numpy has none: arrays hold its bits as uint16, and calls name the type
_UFUNCS: dict[str, np.ufunc] = {
    "sum": np.add,
    "mean": np.add,
    "product": np.multiply,
    "max": np.maximum,  # NaN if any is
    "min": np.minimum,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}
OPERATIONS = tuple(_UFUNCS)
_BITS = ("band", "bor", "bxor")
_WIDE = 1 << 16  # elements that are widened at a time: 256 KiB of float32 stay in the cache


class Reduction:
    """One operation on one number type."""

    def __init__(self, op: str, dtype: np.dtype[Any], number: str = "") -> None:
        """`number` names the type where numpy's does not say it. Raises ValueError."""
        self.op, self.number = op, number or dtype.name
        if op not in _UFUNCS:
            raise ValueError(f"ranks can be combined by {', '.join(OPERATIONS)}, not by {op!r}")
        if number == BFLOAT16:
            if dtype != np.uint16:
                raise ValueError(f"bfloat16 is given as uint16 arrays, not {dtype}")
        elif number not in ("", dtype.name):
            raise ValueError(f"an array of {dtype} does not hold {number}")
        elif dtype.kind not in "biufc":
            raise ValueError(f"numbers can be combined, not {dtype}")
        self.half = self.number in (BFLOAT16, "float16")
        is_float = number == BFLOAT16 or dtype.kind in "fc"
        if (op in _BITS and is_float) or (op == "mean" and not is_float):
            raise ValueError(f"{op} is not defined for {self.number}")
        self._combine = _UFUNCS[op]
        self.in_one_pass = op in ("sum", "mean") and self.number in kernels.ADDED

    def fold(self, parts: Sequence[Array], out: Array) -> None:
        """out[n] = parts[0][n], then parts[1][n], … combined, all of one length and type.

        `out` may be the memory of one of the parts.
        """
        if self.half:
            for at in range(0, len(out), _WIDE):
                span = slice(at, at + _WIDE)
                self._fold_wide([part[span] for part in parts], out[span])
        elif len(parts) == 1:
            np.copyto(out, parts[0])
        else:
            late = any(np.may_share_memory(part, out) for part in parts[2:])
            into = np.empty_like(out) if late else out
            self._combine(parts[0], parts[1], out=into)
            for part in parts[2:]:
                self._combine(into, part, out=into)
            if into is not out:
                np.copyto(out, into)
        if self.op == "mean" and not self.half:
            np.divide(out, len(parts), out=out)

    def fold_twice(
        self, parts: Sequence[Array], out: Array, copy: Array | None, past_cache: bool
    ) -> None:
        """The same in `out` and, unless that is None, in `copy`, which is none of the parts.

        `past_cache`: `out` is part of so much data that it will not be read from the cache.
        """
        if self.in_one_pass:
            divisor = len(parts) if self.op == "mean" else 1
            kernels.add_up(parts, divisor, out, copy, past_cache)
            return
        self.fold(parts, out if copy is None else copy)
        if copy is not None and past_cache:
            kernels.copy_past_cache(copy, out)
        elif copy is not None:
            np.copyto(out, copy)

    def _fold_wide(self, parts: Sequence[Array], out: Array) -> None:
        total = _widen(parts[0], self.number)
        for part in parts[1:]:
            if self.number == BFLOAT16 and self._combine is np.add:
                kernels.from_bfloat16(part, total, True)
            else:
                self._combine(total, _widen(part, self.number), out=total)
        if self.op == "mean":
            np.divide(total, len(parts), out=total)
        _narrow(total, self.number, out)


@lru_cache(64)
def reduction_of(op: str, dtype: np.dtype[Any], number: str = "") -> Reduction:
    """The same, made once. Raises ValueError."""
    return Reduction(op, dtype, number)


def _widen(values: Array, number: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 of half floats, exactly; always new memory."""
    if number == "float16":
        return values.astype(np.float32)
    wide = np.empty(len(values), np.float32)
    kernels.from_bfloat16(values, wide, False)
    return wide


def _narrow(values: np.ndarray[Any, np.dtype[np.float32]], number: str, out: Array) -> None:
    """Half floats of float32, rounded to the nearest, ties to even; NaN stays NaN."""
    if number == "float16":
        with np.errstate(over="ignore"):
            out[...] = values
        return
    kernels.to_bfloat16(values, out)
