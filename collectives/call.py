"""One collective as one rank calls it, and what carries it out: the seam between Group and links.

`Group` checks a call once and gives it to the first of its algorithms that takes it. All ranks must
pick the same one, so `takes` may look only at what all of them know: the kind, the sizes, the type,
the root, and the members of the generation.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from collectives.reductions import Reduction

Array = np.ndarray[Any, Any]


class Kind(IntEnum):
    """What a collective does. `source` and `out` are flat; n = elements per rank."""

    ALL_REDUCE = 0  # source[n] of all, combined, in out[n] of all
    REDUCE_SCATTER = 1  # source[size * n] of all, combined; the r-th n of it in out[n] of rank r
    REDUCE = 2  # source[n] of all, combined, in out[n] of root (others: out[0])
    ALL_GATHER = 3  # source[n] of all, by rank, in out[size * n] of all
    GATHER = 4  # source[n] of all, by rank, in out[size * n] of root (others: out[0])
    SCATTER = 5  # the r-th n of source[size * n] of root (others: source[0]) in out[n] of rank r
    BROADCAST = 6  # source[n] of root (others: source[0]) in out[n] of the others (root: out[0])
    ALL_TO_ALL = 7  # sends[r] elements of source to rank r, receives[r] from it in out, by rank


@dataclass(frozen=True, slots=True)
class Call:
    """Every field but the arrays (and the counts of ALL_TO_ALL) is equal on all ranks.

    `source` is never written and `out` is the caller's: what an aborted call leaves there means
    nothing. They do not overlap, except that ALL_REDUCE and REDUCE may be called in place (`source`
    and `out` are the same memory; then the input means nothing after an abort, either).
    """

    kind: Kind
    sequence: int  # which collective of this generation, counted from 1
    fingerprint: int  # differs between calls that do not belong together
    source: Array
    out: Array
    length: int  # n, see Kind; for ALL_TO_ALL 0
    reduction: Reduction | None = None  # of the first three kinds
    root: int = 0
    sends: tuple[int, ...] = ()
    receives: tuple[int, ...] = ()

    def bytes_given(self, size: int) -> float:
        """How much a rank has to give to others at least, whatever carries the call out: of a
        reduction its share of everybody's values to whoever adds them up, and of the sums."""
        whole, others = self.source.nbytes, (size - 1) / size
        match self.kind:
            case Kind.ALL_REDUCE:
                return 2 * whole * others
            case Kind.ALL_GATHER | Kind.BROADCAST:
                return whole * (size - 1.0)
            case _:
                return whole * others


class Algorithm(Protocol):
    """One way to carry out collectives within one generation. Used by one thread."""

    def takes(self, call: Call) -> bool:
        """Whether this is for us; the same answer on every rank."""

    def run(self, call: Call) -> None:
        """Returns when `out` is complete and nobody reads `source` any more. Raises Aborted."""

    def interrupt(self) -> None:
        """From any thread: if `run` sleeps where `DataPlane.wake` does not wake it, wake it."""

    def end(self) -> None:
        """The generation is over: let go of all memory. Idempotent."""


def check_usable(name: str, source: Array, out: Array | None = None) -> None:
    """Raises ValueError unless links can carry this memory."""
    for array in (source, out):
        if array is None:
            continue
        if array.dtype.hasobject:
            raise ValueError(f"{name} needs numbers, not objects")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} needs contiguous arrays")
    if out is not None and not out.flags.writeable:
        raise ValueError(f"{name} needs a writeable out")
