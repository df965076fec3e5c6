"""Continuous batching: who is computed in the next step, who waits, and who is refused. Pure.

A stream is a request that has a slot, which is the memory for its keys and values. What is to be
computed of it are the ids that its cache does not have yet: all of the prompt at first, then the
one id that was drawn last. So joining, going on and resuming are one thing, and a step takes rows
of each: one of every stream that is being answered, then as much of waiting prompts as fits.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from p2p.serving.messages import Generate

ROWS_MAX = 64  # of one step; a long prompt takes several, and others get a token from each


@dataclass(frozen=True, slots=True)
class Row:
    """Token number `place` of the stream in `slot`; wanted: the scores of what comes next."""

    slot: int
    place: int
    token: int
    is_wanted: bool


@dataclass(slots=True)
class Stream:
    """ids: of the prompt, then of the answer. cached: how many of them were computed."""

    asked: Generate
    prompt: int
    ids: list[int]
    slot: int = -1
    cached: int = 0

    @property
    def answered(self) -> int:
        return len(self.ids) - self.prompt


@dataclass(slots=True)
class _Slot:
    """What is in the cache of nobody's slot stays there: who begins alike need not compute it."""

    ids: list[int] = field(default_factory=list)
    used: int = 0  # when it was given back, by a counter


class Busy(Exception):
    """Too many wait already."""


class Batch:
    """`context`: tokens of prompt and answer together; `waiting_max`: requests without a slot."""

    def __init__(self, slots: int, context: int, waiting_max: int) -> None:
        self._free = {number: _Slot() for number in range(slots)}
        self._context, self._waiting_max = context, waiting_max
        self._streams: dict[str, Stream] = {}  # that have a slot, in the order in which they got it
        self._waiting: deque[Stream] = deque()
        self._clock = 0

    @property
    def running(self) -> int:
        return len(self._streams)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: str) -> bool:
        return self.find(request) is not None

    def find(self, request: str) -> Stream | None:
        found = self._streams.get(request)
        return found or next((s for s in self._waiting if s.asked.request == request), None)

    def at(self, slot: int) -> Stream:
        """Raises KeyError."""
        return {stream.slot: stream for stream in self._streams.values()}[slot]

    def add(self, asked: Generate, prompt: Sequence[int]) -> Stream:
        """Raises Busy; ValueError with a sentence for a prompt that cannot be answered."""
        ids = [*prompt, *asked.sent]
        if not prompt:
            raise ValueError("the prompt is empty: give at least one character")
        if len(prompt) >= self._context or len(ids) > self._context:
            raise ValueError(
                f"the prompt has {len(prompt):,} tokens and the model's context is "
                f"{self._context:,}, of prompt and answer together: give a shorter one"
            )
        if not self._free and len(self._waiting) >= self._waiting_max:
            raise Busy
        stream = Stream(asked, len(prompt), ids)
        self._waiting.append(stream)
        self._seat()
        return stream

    def end(self, request: str) -> None:
        """It was answered, or nobody wants it any more; who waits longest gets its slot."""
        stream = self._streams.pop(request, None)
        if stream is None:
            self._waiting = deque(s for s in self._waiting if s.asked.request != request)
            return
        self._clock += 1
        self._free[stream.slot] = _Slot(stream.ids[: stream.cached], self._clock)
        self._seat()

    def plan(self) -> list[Row]:
        """The rows of the next step, at most ROWS_MAX and one more per stream; none = idle."""
        rows: list[Row] = []
        room = ROWS_MAX - len(self._streams)
        for stream in self._streams.values():
            pending = len(stream.ids) - stream.cached
            taken = min(pending, 1 + max(0, room))
            room -= taken - 1
            for place in range(stream.cached, stream.cached + taken):
                is_last = place + 1 == len(stream.ids)
                rows.append(Row(stream.slot, place, stream.ids[place], is_last))
        return rows

    def computed(self, rows: Sequence[Row]) -> Iterator[Stream]:
        """`plan`'s rows were computed. Gives the streams of the wanted ones, in their order."""
        by_slot = {stream.slot: stream for stream in self._streams.values()}
        for row in rows:
            by_slot[row.slot].cached = row.place + 1
        return iter([by_slot[row.slot] for row in rows if row.is_wanted])

    def is_full(self, stream: Stream) -> bool:
        """Whether its answer has all the tokens that it may have."""
        most = stream.answered >= stream.asked.max_tokens
        return most or len(stream.ids) >= self._context

    def _seat(self) -> None:
        while self._waiting and self._free:
            stream = self._waiting.popleft()
            most = len(stream.ids) - 1  # the last one's scores are wanted
            alike = {n: _alike(slot.ids, stream.ids, most) for n, slot in self._free.items()}
            stream.slot = _best(alike, self._free)
            stream.cached = alike[stream.slot]
            del self._free[stream.slot]
            self._streams[stream.asked.request] = stream


def _best(alike: Mapping[int, int], free: Mapping[int, _Slot]) -> int:
    """The slot whose cache begins alike the furthest; of these, the longest unused."""
    return min(alike, key=lambda number: (-alike[number], free[number].used, number))


def _alike(ours: Sequence[int], theirs: Sequence[int], most: int) -> int:
    """How many ids both begin with, `most` at most."""
    pairs = zip(ours, theirs, strict=False)
    differs = next((at for at, (a, b) in enumerate(pairs) if a != b), len(ours))
    return min(differs, len(theirs), most)
