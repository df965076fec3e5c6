"""The write-ahead log as bytes: pure encoding and scanning; the host does the writing and syncing.

File:   header (8 bytes: magic and version), then frames without gaps.
Frame:  marker (4 bytes) | length of payload (u32) | CRC-32 (u32) | payload.      All big-endian.
Payload: msgpack [hard state [term, vote, commit] or nil, first index, [[term, type, data], …]].

One frame is one batch and therefore one step: the hard state changes, the log is cut at the first
index and the entries are appended together, or none of it happened. That gives the order that Raft
needs (no entry of a term before the term itself) for free.

The checksum is zlib.crc32 and not CRC32C: both find every burst up to 32 bits, but the standard
library has only the former in C (about 1 GB/s; a table in Python does 5 MB/s). It starts from the
frame's place in the file, so a frame that was written elsewhere, or that lies inside somebody's
data, is not taken for one.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgpack

from consensus.messages import Entry, HardState
from consensus.wire import MalformedMessage, as_list, as_uint

HEADER = b"p2pWAL\x00\x01"
_MARKER = b"\xf5rft"
_FRAME = struct.Struct(">4sII")
_LENGTH = struct.Struct(">I")
FRAME_BYTES_MAX = 1 << 30


class Verdict(StrEnum):
    """CLEAN: whole frames only. TORN_TAIL: the last write was cut short, drop it.

    DAMAGED: something before the end is unreadable. Nobody can tell what was promised there: do
    not start.
    """

    CLEAN = "clean"
    TORN_TAIL = "torn tail"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds up to its first flaw. valid_length: bytes from the start that are sound.

    valid_length is 0 when not even the header is whole: then write HEADER first.
    """

    hard_state: HardState
    entries: list[Entry]
    valid_length: int
    verdict: Verdict


def encode(hard_state: HardState | None, entries: Sequence[Entry], offset: int) -> bytes:
    """One frame, to be written at `offset` bytes from the start of the file (HEADER comes first).

    `entries` are contiguous; they replace everything from entries[0].index on. Raises ValueError
    when the batch is larger than FRAME_BYTES_MAX.
    """
    first = entries[0].index if entries else 0
    state = None if hard_state is None else hard_state.to_wire()
    payload: bytes = msgpack.packb([state, first, [entry.to_wire() for entry in entries]])
    if len(payload) > FRAME_BYTES_MAX:
        raise ValueError(f"a batch of {len(payload)} bytes is too large for the write-ahead log")
    return _FRAME.pack(_MARKER, len(payload), _checksum(payload, offset)) + payload


def scan(data: bytes) -> Scan:
    """Read a whole file. Never raises: the verdict says what is wrong."""
    hard_state, entries = HardState(), list[Entry]()
    if not data.startswith(HEADER):
        torn = len(data) < len(HEADER) and HEADER.startswith(data)
        verdict = Verdict.TORN_TAIL if torn and data else Verdict.DAMAGED
        return Scan(hard_state, entries, 0, verdict if data else Verdict.CLEAN)
    view, offset = memoryview(data), len(HEADER)
    while offset < len(data):
        payload = _payload_at(view, offset)
        if payload is None:
            return Scan(hard_state, entries, offset, _verdict(data, view, offset))
        try:
            state, batch = _decode(payload)
            if batch:
                _replace_from(entries, batch)
        except MalformedMessage:
            return Scan(hard_state, entries, offset, Verdict.DAMAGED)  # sound bytes, absurd meaning
        hard_state = state or hard_state
        offset += _FRAME.size + len(payload)
    return Scan(hard_state, entries, offset, Verdict.CLEAN)


def _checksum(payload: bytes | memoryview, offset: int) -> int:
    start = zlib.crc32(_LENGTH.pack(len(payload)), offset & 0xFFFFFFFF)
    return zlib.crc32(payload, start)


def _payload_at(view: memoryview, offset: int) -> memoryview | None:
    """The payload of the frame at `offset`; None when there is no sound one."""
    start = offset + _FRAME.size
    if start > len(view):
        return None
    marker, length, checksum = _FRAME.unpack_from(view, offset)
    if marker != _MARKER or length > FRAME_BYTES_MAX or start + length > len(view):
        return None
    payload = view[start : start + length]
    return payload if _checksum(payload, offset) == checksum else None


def _verdict(data: bytes, view: memoryview, flaw: int) -> Verdict:
    """A flaw with a sound frame behind it is no torn write."""
    place = data.find(_MARKER, flaw + 1)
    while place != -1:
        if _payload_at(view, place) is not None:
            return Verdict.DAMAGED
        place = data.find(_MARKER, place + 1)
    return Verdict.TORN_TAIL


def _decode(payload: memoryview) -> tuple[HardState | None, list[Entry]]:
    try:
        value = msgpack.unpackb(payload)
    except (ValueError, msgpack.UnpackException, msgpack.ExtraData) as error:
        raise MalformedMessage(f"not msgpack: {error}") from None
    state, first, items = as_list(value, "batch", 3)
    start = as_uint(first, "first index")
    batch = [
        Entry.from_wire(item, start + place) for place, item in enumerate(as_list(items, "entries"))
    ]
    return None if state is None else HardState.from_wire(state), batch


def _replace_from(entries: list[Entry], batch: list[Entry]) -> None:
    first = batch[0].index
    if not 1 <= first <= len(entries) + 1:
        raise MalformedMessage(f"entry {first} does not follow entry {len(entries)}")
    del entries[first - 1 :]
    entries.extend(batch)
