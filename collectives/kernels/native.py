"""The loops of loops.c, where they were compiled at installation; None where not.

The library has no Python in it and is called without the interpreter's lock.
"""

import ctypes
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectives.kernels.portable import Array, Float32s, Int32s, Key

VERSION = 6  # of loops.c; another one was compiled from other sources and is not used
PORTABLE = "P2P_PORTABLE_KERNELS"  # set to anything: numpy only, to compare with

_POINTER, _SIZE, _INT, _WORD = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_uint32
_ARGUMENTS = {
    "largest_bits": [_POINTER, _SIZE, _SIZE, _SIZE, _SIZE, _POINTER],
    "round_nearest": [_POINTER, _SIZE, _SIZE, _POINTER, _SIZE, _SIZE, _INT, _POINTER],
    **{
        f"round_stochastic_{kind}": [
            *(_POINTER, _POINTER, _SIZE, _SIZE, _WORD, _WORD, _INT, _POINTER)
        ]
        for kind in ("int16", "int8")
    },
    **{
        f"scaled_{kind}": [_POINTER, _POINTER, _SIZE, _SIZE, _POINTER]
        for kind in ("int32", "int16", "int8")
    },
    "to_bfloat16": [_POINTER, _SIZE, _POINTER],
    "from_bfloat16": [_POINTER, _SIZE, _INT, _POINTER],
    "copy_past_cache": [_POINTER, _SIZE, _POINTER],
    "look": [_POINTER, _WORD, _SIZE],
    **{
        f"sum_{kind}": [_POINTER, _SIZE, _SIZE, ctypes.c_double, _INT, _POINTER, _POINTER]
        for kind in ("float32", "float64", "int32", "int64")
    },
}
_SUMS = {  # unsigned integers wrap around alike
    **{name: f"sum_{name}" for name in ("float32", "float64", "int32", "int64")},
    **{f"uint{width}": f"sum_int{width}" for width in (32, 64)},
}


class Native:
    """Same signatures and bits as the functions of portable.py."""

    def __init__(self, path: str) -> None:
        """Raises OSError when the file is no library, AttributeError for one of other sources."""
        self._library = ctypes.CDLL(path)
        if self._library.version() != VERSION:
            raise AttributeError(f"{path} is of another version")
        for name, arguments in _ARGUMENTS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, None

    def largest_bits(self, values: Float32s, block: int, largest: Int32s) -> None:
        rows, length = values.shape
        stride = values.strides[0] // values.itemsize
        self._library.largest_bits(_at(values), rows, stride, length, block, _at(largest))

    def round_nearest(
        self, values: Float32s, factors: Array, block: int, out: Int32s, add: bool
    ) -> None:
        rows, length = values.shape
        stride = values.strides[0] // values.itemsize
        self._library.round_nearest(
            _at(values), rows, stride, _at(factors), length, block, int(add), _at(out)
        )

    def round_stochastic(
        self, values: Float32s, factors: Float32s, block: int, key: Key, out: Array, add: bool
    ) -> None:
        function = getattr(self._library, f"round_stochastic_{out.dtype.name}")
        function(_at(values), _at(factors), len(values), block, *key, int(add), _at(out))

    def scaled(self, integers: Array, units: Array, block: int, out: Float32s) -> None:
        function = getattr(self._library, f"scaled_{integers.dtype.name}")
        function(_at(integers), _at(units), len(integers), block, _at(out))

    def to_bfloat16(self, values: Float32s, out: NDArray[np.uint16]) -> None:
        self._library.to_bfloat16(_at(values), len(values), _at(out))

    def from_bfloat16(self, values: NDArray[np.uint16], out: Float32s, add: bool) -> None:
        self._library.from_bfloat16(_at(values), len(values), int(add), _at(out))

    def copy_past_cache(self, source: Array, out: Array) -> None:
        self._library.copy_past_cache(_at(source), source.nbytes, _at(out))

    def add_up(
        self, parts: Sequence[Array], divisor: int, out: Array, copy: Array | None, past_cache: bool
    ) -> None:
        function = getattr(self._library, _SUMS[out.dtype.name])
        every = (_POINTER * len(parts))(*map(_at, parts))
        also = None if copy is None else _at(copy)
        function(every, len(parts), len(out), divisor, past_cache, _at(out), also)

    def look(self, address: int, steps: int, times: int) -> None:
        self._library.look(address, steps, times)


def load() -> Native | None:
    """The compiled loops, or None: not built, built from other sources, or not wanted."""
    found = find_spec("collectives.kernels.loops")
    if found is None or found.origin is None or os.environ.get(PORTABLE):
        return None
    try:
        return Native(found.origin)
    except (OSError, AttributeError):
        return None


def _at(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])
