"""Which elements of whose arrays a rank needs, chunk by chunk, when memory is shared. Pure.

An operation is cut into chunks, and works on them in steps, each rank at most one step ahead of the
others. In step t everybody offers chunk t of its source and takes what it needs of all others'
chunk t - 1. Where the values are combined by segments, it takes in the same step the others'
finished segments of chunk t - 2.

    step        0      1      2      3
    offers    chunk 0      1      2      …
    takes              0      1      2
    collects                  0      1

So each step needs one word from every rank: that it has completed the step before. What is written
in one step is read in the next, which bounds how many chunks are ever in flight.

A large all-reduce cuts every chunk into as many segments as there are ranks. Rank r combines the
r-th segment of all ranks' values, in the order of ranks; the others copy what it found. Each value
is computed by one rank, so all get the same bits. (Reduce-scatter and all-gather: Thakur,
Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH", 2005; in
shared memory: Graham and Shipman, "MPI Support for Multi-core Architectures", 2008.) Small ones are
combined whole by every rank, in the same order: one step less.

Where every rank's source and out are registered memory, which all learn in step 0, an all-reduce of
more than one chunk has no chunks: step 1 combines the own segment of everything, step 2 takes the
others' from their `out`, and in the end all wait until nobody reads any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from collectives.call import Kind
from collectives.plan import segment

CHUNK_BYTES = 4 << 20  # of all that one rank offers at a time
ALIGNMENT = 64  # bytes: a cache line
WHOLE_BYTES_MAX = 64 << 10  # up to here every rank combines everything by itself

_COMBINED = (Kind.ALL_REDUCE, Kind.REDUCE, Kind.REDUCE_SCATTER)
_BY_RANK = (Kind.REDUCE_SCATTER, Kind.SCATTER)  # every rank needs another part of the source
_FROM_ROOT = (Kind.SCATTER, Kind.BROADCAST)
_TO_ROOT = (Kind.REDUCE, Kind.GATHER)


@dataclass(frozen=True, slots=True)
class Need:
    """Elements [start, stop) of a source. If it is staged, they lie from element `at` of it on."""

    start: int
    stop: int
    at: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class Plan:
    """One operation as seen by one rank. `length` is n as Kind has it."""

    def __init__(
        self, kind: Kind, length: int, itemsize: int, root: int, rank: int, size: int
    ) -> None:
        self.kind, self.length, self.root, self.rank, self.size = kind, length, root, rank, size
        self._aligned = max(1, ALIGNMENT // itemsize)
        self.combines = kind in _COMBINED
        large = length * itemsize > WHOLE_BYTES_MAX
        self.by_segments = kind in (Kind.ALL_REDUCE, Kind.REDUCE) and large
        at_a_time = CHUNK_BYTES // itemsize // (size if kind in _BY_RANK else 1)
        self.chunk_length = max(1, at_a_time)
        self.chunks = -(-length // self.chunk_length)
        self.steps = max(1, self.chunks) + (2 if self.by_segments else 1)
        # Combined whole in place, a source is overwritten while others may still read it.
        self.may_lie = self.by_segments or kind not in (Kind.ALL_REDUCE, Kind.REDUCE)
        self.may_stay = kind is Kind.ALL_REDUCE and self.chunks > 1

    def offers(self, rank: int) -> bool:
        """Whether others need something of this rank's source."""
        return self.kind not in _FROM_ROOT or rank == self.root

    def wants(self, rank: int) -> bool:
        """Whether this rank's `out` gets anything (else it only combines its segments)."""
        if self.kind in _TO_ROOT:
            return rank == self.root
        return self.kind is not Kind.BROADCAST or rank != self.root

    def need(self, chunk: int, rank: int) -> Need:
        """What `rank` needs of every source that is offered."""
        start = chunk * self.chunk_length
        stop = min(start + self.chunk_length, self.length)
        if self.by_segments:
            first, last = self._segment(rank, stop - start)
            return Need(start + first, start + last, first)
        if self.kind in _BY_RANK:
            base = rank * self.length
            return Need(base + start, base + stop, rank * self.chunk_length)
        return Need(start, stop, 0)

    def whole_segment(self, rank: int) -> Need:
        """What `rank` combines where results stay in place."""
        first, last = self._segment(rank, self.length)
        return Need(first, last, 0)

    def _segment(self, rank: int, length: int) -> tuple[int, int]:
        """Of about equal parts the one of `rank`; all but the last begin and end at cache lines."""
        lines = -(-length // self._aligned)
        first, last = segment(rank, self.size, lines)
        return min(first * self._aligned, length), min(last * self._aligned, length)

    def staged(self, chunk: int) -> list[Need]:
        """What of this rank's source others need: nothing twice, nothing that only it needs."""
        if self.by_segments or self.kind in _BY_RANK:
            others = (rank for rank in range(self.size) if rank != self.rank)
            return [self.need(chunk, rank) for rank in others]
        return [self.need(chunk, self.rank)]


@dataclass(frozen=True, slots=True)
class Taken:
    """A part of another rank's source, and where in `out` it belongs."""

    source: Need
    start: int


class Pieces:
    """ALL_TO_ALL, chunk by chunk: of each pair of ranks as much at a time as of each other."""

    def __init__(self, itemsize: int, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.length = max(1, CHUNK_BYTES // itemsize // size)  # of one rank's chunk for one other

    def chunks(self, counts: Mapping[int, Sequence[int]]) -> int:
        """counts[s][r] elements go from rank s to rank r. Equal on all ranks."""
        return -(-max(max(sends) for sends in counts.values()) // self.length)

    def staged(self, sends: Sequence[int], chunk: int) -> list[Need]:
        """Where others find their pieces of this rank's chunk."""
        return [self._piece(sends, to, chunk) for to in range(self.size) if to != self.rank]

    def taken(
        self, counts: Mapping[int, Sequence[int]], receives: Sequence[int], chunk: int
    ) -> list[tuple[int, Taken]]:
        """What this rank gets of all ranks' chunks, itself first."""
        taken = []
        for offset in range(self.size):
            rank = (self.rank + offset) % self.size
            start = sum(receives[:rank]) + chunk * self.length
            taken.append((rank, Taken(self._piece(counts[rank], self.rank, chunk), start)))
        return taken

    def _piece(self, sends: Sequence[int], to: int, chunk: int) -> Need:
        first = sum(sends[:to])
        last = first + sends[to]
        start = min(first + chunk * self.length, last)
        return Need(start, min(start + self.length, last), to * self.length)


@lru_cache(256)
def plan_of(kind: Kind, length: int, itemsize: int, root: int, rank: int, size: int) -> Plan:
    """The plan of an operation that is done again and again."""
    return Plan(kind, length, itemsize, root, rank, size)
