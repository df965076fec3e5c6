"""The write-ahead log as bytes: what its frames say. Pure; the host does the writing and syncing.

The log is a row of segments: files of frames (consensus/frames.py), numbered on from one segment
to the next. A segment is named for the number of its first frame.

start frame "S", the first of a segment: msgpack [hard state, last index, last term] as they were
    then, so that the segments before it can go once a snapshot covers that index.
batch frame "B": msgpack [hard state or nil, base or nil, first index, [[term, type, data], …]].

One batch is one frame and therefore one step: the hard state changes, the log becomes empty after
`base` (a snapshot was installed), is cut at the first index and the entries are appended, or
none of it happened. That gives the order that Raft needs (no entry of a term before the term
itself) for free. A start frame and the first batch of its segment are written together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack

from consensus.frames import encode_frame
from consensus.messages import Entry, HardState
from consensus.wire import MalformedMessage, as_list, as_uint

START, BATCH = b"S", b"B"
SEGMENT_PREFIX = "wal-"
Position = tuple[int, int]  # (index, term) of an entry; (0, 0): before the first


@dataclass(frozen=True, slots=True)
class Start:
    """Where the log stood when a segment was begun."""

    hard_state: HardState
    last: Position


@dataclass(frozen=True, slots=True)
class Batch:
    """One durable step. `base`: forget the log, it goes on after this position."""

    hard_state: HardState | None
    base: Position | None
    entries: list[Entry]


def segment_name(number: int) -> str:
    """The file whose first frame has this number; names sort like their numbers."""
    return f"{SEGMENT_PREFIX}{number:016d}"


def segment_number(name: str) -> int | None:
    """Inverse of segment_name; None for other files."""
    digits = name.removeprefix(SEGMENT_PREFIX)
    return int(digits) if name.startswith(SEGMENT_PREFIX) and digits.isdecimal() else None


def encode_start(number: int, hard_state: HardState, last: Position) -> bytes:
    """The first frame of a segment."""
    return encode_frame(START, number, msgpack.packb([hard_state.to_wire(), *last]))


def encode_batch(
    number: int,
    hard_state: HardState | None,
    entries: Sequence[Entry],
    base: Position | None = None,
) -> bytes:
    """One frame. `entries` are contiguous; they replace everything from entries[0].index on.

    Raises ValueError when the batch is too large for a frame.
    """
    state = None if hard_state is None else hard_state.to_wire()
    first = entries[0].index if entries else 0
    body = [state, base, first, [entry.to_wire() for entry in entries]]
    return encode_frame(BATCH, number, msgpack.packb(body))


def decode_start(payload: bytes) -> Start:
    """Raises MalformedMessage."""
    state, index, term = as_list(_unpack(payload), "start", 3)
    return Start(HardState.from_wire(state), _position([index, term]))


def decode_batch(payload: bytes) -> Batch:
    """Raises MalformedMessage."""
    state, base, first, items = as_list(_unpack(payload), "batch", 4)
    start = as_uint(first, "first index")
    entries = [
        Entry.from_wire(item, start + place) for place, item in enumerate(as_list(items, "entries"))
    ]
    if entries and start == 0:
        raise MalformedMessage("a batch begins at entry 0")
    return Batch(
        None if state is None else HardState.from_wire(state),
        None if base is None else _position(base),
        entries,
    )


def _position(value: object) -> Position:
    index, term = as_list(value, "position", 2)
    return as_uint(index, "index"), as_uint(term, "term")


def _unpack(payload: bytes) -> object:
    try:
        return msgpack.unpackb(payload)
    except (ValueError, msgpack.UnpackException, msgpack.ExtraData) as error:
        raise MalformedMessage(f"not msgpack: {error}") from None
