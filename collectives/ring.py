"""The ring all-reduce as a step machine: which bytes go where and when. No sockets, no numpy.

Bandwidth-optimal ring (Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
workstations", 2009): the array is cut into `size` segments; in `size - 1` REDUCE steps every rank
passes partial sums to its right, after which rank r owns the finished segment r + 1; in `size - 1`
GATHER steps the finished segments go round. Each rank sends 2 (N-1)/N of the array, whatever N is.
Every segment is cut into chunks, and a chunk goes on as soon as it is reduced, so all links are
busy at once.

Out of place: the first hop sends from `source`; every other send is of `out`, or of the very bytes
that arrived. `source` is never written, so an operation that ends early leaves the input as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Phase(IntEnum):
    REDUCE = 0
    GATHER = 1


class Memory(IntEnum):
    """Where the bytes of a send lie."""

    SOURCE = 0  # the caller's input
    OUT = 1  # the caller's result array
    ARRIVED = 2  # the chunk that has just arrived, to be passed on unchanged


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements [start, stop) of the array, as they travel over one link in one step."""

    phase: Phase
    step: int
    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this chunk to the right-hand neighbour (rank + 1)."""

    chunk: Chunk
    memory: Memory


class OutOfOrder(Exception):
    """A chunk came that is not the next one of its link: one before it was lost or repeated."""


def segment(number: int, size: int, length: int) -> tuple[int, int]:
    """Bounds of one of `size` nearly equal segments; some are empty if values are few."""
    return number * length // size, (number + 1) * length // size


def even_chunk(length: int, size: int, aim: int) -> int:
    """The chunk length that cuts every segment into equal chunks of about `aim` elements."""
    longest = -(-length // size)
    return max(1, -(-longest // max(1, round(longest / aim))))


class AllReduce:
    """One rank's part in one all-reduce of `length` elements.

    Send everything `start()` names; then, for every chunk from the left, call `on_chunk`, do what
    its chunk says (REDUCE: out = source + arrived, GATHER: out = arrived), and only then the send
    it returns. All chunks of a link come in one fixed order, known in advance.
    """

    def __init__(self, rank: int, size: int, length: int, chunk_length: int) -> None:
        if not 0 <= rank < size or length < 0 or chunk_length < 1:
            raise ValueError(f"no such ring: rank {rank} of {size}, {length} by {chunk_length}")
        self.rank, self.size, self.length, self.chunk_length = rank, size, length, chunk_length
        self._expected = self._arrivals()
        self._next = next(self._expected, None)

    @property
    def done(self) -> bool:
        """True when every chunk has arrived; the result is complete once they are written."""
        return self._next is None

    @property
    def expected(self) -> Chunk | None:
        """The chunk that must come next from the left."""
        return self._next

    def start(self) -> Iterator[Send]:
        """The sends that wait for nothing: this rank's own segment, from `source`."""
        if self.size > 1:
            for chunk in self._chunks(Phase.REDUCE, 0, self.rank):
                yield Send(chunk, Memory.SOURCE)

    def on_chunk(self, phase: int, step: int, index: int) -> tuple[Chunk, Send | None]:
        """Take the next chunk from the left: where it belongs, and what to send on afterwards.

        Raises OutOfOrder when it is not the one expected.
        """
        chunk = self._next
        if chunk is None or (chunk.phase, chunk.step, chunk.index) != (phase, step, index):
            raise OutOfOrder(f"chunk {(phase, step, index)} came, {chunk} was expected")
        self._next = next(self._expected, None)
        return chunk, self._onward(chunk)

    def _onward(self, chunk: Chunk) -> Send | None:
        last = chunk.step == self.size - 2
        if chunk.phase is Phase.GATHER:
            if last:
                return None
            onward = Chunk(Phase.GATHER, chunk.step + 1, chunk.index, chunk.start, chunk.stop)
            return Send(onward, Memory.ARRIVED)
        phase, step = (Phase.GATHER, 0) if last else (Phase.REDUCE, chunk.step + 1)
        return Send(Chunk(phase, step, chunk.index, chunk.start, chunk.stop), Memory.OUT)

    def _arrivals(self) -> Iterator[Chunk]:
        for step in range(self.size - 1):
            yield from self._chunks(Phase.REDUCE, step, self.rank - 1 - step)
        for step in range(self.size - 1):
            yield from self._chunks(Phase.GATHER, step, self.rank - step)

    def _chunks(self, phase: Phase, step: int, number: int) -> Iterator[Chunk]:
        start, stop = segment(number % self.size, self.size, self.length)
        for index, at in enumerate(range(start, stop, self.chunk_length)):
            yield Chunk(phase, step, index, at, min(at + self.chunk_length, stop))
