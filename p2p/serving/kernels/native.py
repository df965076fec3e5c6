"""The loops of rows.c, where they were compiled and this processor has the vectors for them."""

import ctypes
import os
from importlib.util import find_spec
from typing import Any

VERSION = 1  # of rows.c; another one was compiled from other sources and is not used
PORTABLE = "P2P_PORTABLE_KERNELS"  # set to anything: PyTorch only, to compare with
LANES = 16  # a vector's numbers; heads and capacities are multiples of it
PANEL = 64  # columns of a linear layer that lie together
ALIGNED_BYTES = 64
HEAD_WIDTH_MAX = 1024

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_int64
_LINEAR: Any = [_POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE]
_ATTENTION: Any = [
    *(_POINTER, _POINTER, _POINTER, _SIZE, _POINTER, _POINTER, _POINTER, _POINTER),
    *(_SIZE, _SIZE, _SIZE, _SIZE, _SIZE, ctypes.c_float, _POINTER, _POINTER, _SIZE),
]


def load() -> Any | None:
    """The library with `linear` and `attention` as rows.c says, or None. Nothing is checked there:
    callers pass addresses of memory that is as large as they say."""
    found = find_spec("p2p.serving.kernels.rows")
    if found is None or found.origin is None or os.environ.get(PORTABLE):
        return None
    try:
        library = ctypes.CDLL(found.origin)
        if library.version() != VERSION:
            return None
        library.linear.argtypes, library.linear.restype = _LINEAR, None
        library.attention.argtypes, library.attention.restype = _ATTENTION, None
    except (OSError, AttributeError):
        return None
    return library
