"""Direct exchange as a step machine: who sends which elements to whom, in one hop or two. Pure.

In the first hop every rank sends spans of its source straight to the ranks that need them; in the
second, where there is one, it sends the span of `out` that it has just finished to the others.
All-reduce in two hops is reduce-scatter then all-gather, each straight instead of around a ring:
every rank sends 2 (N-1)/N of the array, the least there is (Patarasuk & Yuan, 2009), in 2 hops
where a ring takes 2 (N-1). In one hop everybody sends everything to everybody: (N-1) times the
array, at the lowest latency (Thakur, Rabenseifner & Gropp, "Optimization of collective
communication operations in MPICH", 2005, choose by size in the same way).

Spans are cut into chunks, and a chunk goes on in the second hop as soon as it is finished. What one
rank sends to another comes in a fixed order within each hop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

from collectives.call import Call, Kind

Span = tuple[int, int]  # elements [start, stop) of an array
NOTHING: Span = (0, 0)


class Hop(IntEnum):
    FIRST = 0
    SECOND = 1


class Act(IntEnum):
    """What to do with a chunk that has come."""

    PLACE = 0  # it belongs into out as it is
    HOLD = 1  # keep it until the others' same chunk is here
    COMBINE = 2  # it was the last one: combine all, into out


@dataclass(frozen=True, slots=True)
class Plan:
    """One rank's part of a call. Tuples are indexed by the other rank."""

    sends: tuple[Span, ...]  # first hop: of source
    own: Span  # of source: what this rank needs itself
    mine: Span  # of out: where `own` goes, or is combined with what comes, if `combined`
    combined: bool
    receives: tuple[Span, ...]  # first hop: of out; all equal to `mine` if combined
    returns: tuple[Span, ...]  # second hop: of out
    onward: tuple[int, ...] = ()  # ranks to which what the first hop brought goes on


@dataclass(frozen=True, slots=True)
class Send:
    """Elements [start, stop) of source (first hop) or out (second) to rank `to`."""

    to: int
    hop: Hop
    index: int
    start: int
    stop: int


class OutOfOrder(Exception):
    """A chunk came that is not the next one of its rank and hop: one was lost or repeated."""


def segment(number: int, size: int, length: int) -> Span:
    """Bounds of one of `size` nearly equal segments; some are empty if values are few."""
    return number * length // size, (number + 1) * length // size


def make_plan(call: Call, rank: int, size: int, hops: int) -> Plan:
    """The plan of rank `rank`. `hops` = 2 is only for ALL_REDUCE and BROADCAST."""
    nothing, n = (NOTHING,) * size, call.length
    whole, by_rank = (0, n), tuple((r * n, (r + 1) * n) for r in range(size))
    at_root = rank == call.root
    to_root = tuple(whole if r == call.root else NOTHING for r in range(size))
    match call.kind:
        case Kind.ALL_REDUCE if hops == 2:
            cut = tuple(segment(r, size, n) for r in range(size))
            others = tuple(r for r in range(size) if r != rank)
            return Plan(cut, cut[rank], cut[rank], True, (cut[rank],) * size, cut, others)
        case Kind.ALL_REDUCE:
            return Plan((whole,) * size, whole, whole, True, (whole,) * size, nothing)
        case Kind.REDUCE_SCATTER:
            return Plan(by_rank, by_rank[rank], whole, True, (whole,) * size, nothing)
        case Kind.REDUCE if at_root:
            return Plan(nothing, whole, whole, True, (whole,) * size, nothing)
        case Kind.REDUCE:
            return Plan(to_root, NOTHING, NOTHING, False, nothing, nothing)
        case Kind.ALL_GATHER:
            return Plan((whole,) * size, whole, by_rank[rank], False, by_rank, nothing)
        case Kind.GATHER if at_root:
            return Plan(nothing, whole, by_rank[rank], False, by_rank, nothing)
        case Kind.GATHER:
            return Plan(to_root, NOTHING, NOTHING, False, nothing, nothing)
        case Kind.SCATTER:
            sends = by_rank if at_root else nothing
            own, mine = (by_rank[rank], whole) if at_root else (NOTHING, NOTHING)
            return Plan(sends, own, mine, False, to_root, nothing)
        case Kind.BROADCAST:
            return _broadcast(n, rank, size, call.root, hops)
    sends, receives = _by_counts(call.sends), _by_counts(call.receives)
    return Plan(sends, sends[rank], receives[rank], False, receives, nothing)


def _broadcast(n: int, rank: int, size: int, root: int, hops: int) -> Plan:
    """In two hops the root sends every other rank a part, and they send it to one another."""
    nothing = (NOTHING,) * size
    whole = [(0, n) if r != root else NOTHING for r in range(size)]
    if hops == 2:
        others = [r for r in range(size) if r != root]
        for number, other in enumerate(others):
            whole[other] = segment(number, size - 1, n)
    cut = tuple(whole)
    if rank == root:
        return Plan(cut, NOTHING, NOTHING, False, nothing, nothing)
    receives = tuple(cut[rank] if r == root else NOTHING for r in range(size))
    if hops == 1:
        return Plan(nothing, NOTHING, NOTHING, False, receives, nothing)
    onward = tuple(r for r in range(size) if r not in (rank, root))
    return Plan(nothing, NOTHING, cut[rank], False, receives, cut, onward)


def _by_counts(counts: Sequence[int]) -> tuple[Span, ...]:
    return tuple(pairwise(accumulate(counts, initial=0)))


class Machine:
    """Send everything `start()` names; for every chunk call `expect` when it begins to come, and
    `on_chunk` when it is here, and do as its Act says; after PLACE or COMBINE of a first-hop chunk
    send what `onward` names."""

    def __init__(self, plan: Plan, rank: int, chunk_length: int) -> None:
        self.plan, self.rank, self.chunk_length = plan, rank, chunk_length
        size = len(plan.sends)
        self._next = [[0] * size, [0] * size]  # by hop and sender: the index that must come
        self._count = [[0] * size, [0] * size]  # … and how many will come
        for hop, spans in enumerate((plan.receives, plan.returns)):
            for sender, span in enumerate(spans):
                if sender != rank:
                    self._count[hop][sender] = self._chunks(span)
        self._held = [0] * (self._chunks(plan.mine) if plan.combined else 0)
        left = [first + second for first, second in zip(*self._count, strict=True)]
        self._left = {sender: count for sender, count in enumerate(left) if count}

    @property
    def awaited(self) -> "dict[int, int]":
        """How many chunks must still come, by the ranks from which some must."""
        return self._left

    def start(self) -> Iterator[Send]:
        """What waits for nothing: chunk by chunk, so that all receivers can begin at once."""
        size = len(self.plan.sends)
        order = [(self.rank + offset) % size for offset in range(1, size)]
        chunks = max((self._chunks(self.plan.sends[to]) for to in order), default=0)
        for index in range(chunks):
            for to in order:
                if index < self._chunks(self.plan.sends[to]):
                    yield Send(to, Hop.FIRST, index, *self.bounds(self.plan.sends[to], index))

    def expect(self, sender: int, hop: int, index: int) -> Span:
        """Where in out the chunk belongs that begins to come.

        Raises OutOfOrder, which changes nothing.
        """
        if hop not in (0, 1) or not index == self._next[hop][sender] < self._count[hop][sender]:
            raise OutOfOrder(f"chunk {index} of hop {hop} came from rank {sender} out of turn")
        self._next[hop][sender] += 1
        spans = self.plan.receives if hop == Hop.FIRST else self.plan.returns
        return self.bounds(spans[sender], index)

    def combines(self, hop: int) -> bool:
        """Whether a chunk of this hop is one of several that are combined."""
        return hop == Hop.FIRST and self.plan.combined

    def on_chunk(self, sender: int, hop: int, index: int) -> Act:
        """An expected chunk is here. What to do."""
        self._left[sender] -= 1
        if not self._left[sender]:
            del self._left[sender]
        if not self.combines(hop):
            return Act.PLACE
        self._held[index] += 1
        return Act.COMBINE if self._held[index] == len(self.plan.receives) - 1 else Act.HOLD

    def onward(self, index: int) -> Iterator[Send]:
        for to in self.plan.onward:
            yield Send(to, Hop.SECOND, index, *self.bounds(self.plan.mine, index))

    def bounds(self, span: Span, index: int) -> Span:
        start = span[0] + index * self.chunk_length
        return start, min(start + self.chunk_length, span[1])

    def _chunks(self, span: Span) -> int:
        return -(-(span[1] - span[0]) // self.chunk_length)
