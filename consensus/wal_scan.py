"""Reading the write-ahead log back: what it adds up to, and whether a flaw is torn or damaged.

A checksum alone cannot tell a write that was under way when the power went, which promised
nothing, from a frame that was durable and has rotted since, on which others rely (Alagappan et
al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018). Hence separate evidence:
the number of the newest frame that is known to have been synced, kept in another file.

A flaw is a torn tail only if all of this holds; everything else is damage:
- it lies above the known synced number, and there is such a number;
- no sound frame follows it: each frame is synced before the next is written;
- it looks like an interrupted write: the file ends too early, or a 512-byte sector of the frame
  holds only zeros, because the file had grown but the sector had not arrived (as etcd's
  isTornEntry).

Zeros up to the end of a segment are space that was reserved for frames to come.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from consensus.frames import HEADER_BYTES, MARKER, header_at, payload_at
from consensus.messages import Entry, HardState
from consensus.wal import (
    BATCH,
    START,
    Batch,
    Position,
    Start,
    decode_batch,
    decode_start,
    segment_name,
)
from consensus.wire import MalformedMessage

SECTOR_BYTES = 512


class Verdict(StrEnum):
    """CLEAN: whole frames only. TORN_TAIL: the last write was cut short, drop it.

    DAMAGED: something that was durable is unreadable. Nobody can tell what was promised there.
    """

    CLEAN = "clean"
    TORN_TAIL = "torn tail"
    DAMAGED = "damaged"


@dataclass(slots=True)
class Scan:
    """What the log holds up to its first flaw.

    base is the position before entries[0]; starts has the first frame number and the last index at
    its beginning for each segment that was read; valid_bytes counts what is sound in the last of
    them, synced_bytes what of that lies at or below the known synced number, whole_bytes what is
    sound in the one before it.
    """

    hard_state: HardState = field(default_factory=HardState)
    base: Position = (0, 0)
    entries: list[Entry] = field(default_factory=list)
    next_number: int = 1
    starts: list[Position] = field(default_factory=list)
    valid_bytes: int = 0
    synced_bytes: int = 0
    whole_bytes: int = 0
    verdict: Verdict = Verdict.CLEAN
    flaw: str = ""  # what is wrong and where, for the user

    @property
    def last(self) -> Position:
        """Of the newest entry, or the base."""
        if not self.entries:
            return self.base
        return self.entries[-1].index, self.entries[-1].term

    def begin(self, start: Start) -> None:
        """Raises MalformedMessage unless the segment continues what was read before."""
        if not self.starts:
            self.base = start.last
        elif start.last != self.last:
            raise MalformedMessage(f"begins after {start.last}, not after {self.last}")
        self.hard_state = start.hard_state
        self.starts.append((self.next_number, start.last[0]))

    def apply(self, batch: Batch) -> None:
        """Raises MalformedMessage when entries are missing before the batch."""
        if batch.base is not None:
            self.base = batch.base
            self.entries.clear()
        if batch.entries:
            self._replace_from(batch.entries)
        self.hard_state = batch.hard_state or self.hard_state

    def _replace_from(self, entries: list[Entry]) -> None:
        first = entries[0].index
        if first > self.last[0] + 1:
            raise MalformedMessage(f"entry {first} does not follow entry {self.last[0]}")
        if first > self.base[0]:
            del self.entries[first - self.base[0] - 1 :]
            self.entries.extend(entries)
        else:  # it replaces entries of a segment that is gone, which a snapshot covers
            self.base = (first, entries[0].term)
            self.entries = entries[1:]


def scan(segments: Iterable[tuple[int, bytes]], synced: int | None) -> Scan:
    """Read (first frame number, bytes) of every segment, in order. Never raises.

    synced: number of the newest frame known to have been synced (0: none), or None when nothing
    is known; then every flaw counts as damage.
    """
    found = Scan()
    for first, data in segments:
        if found.flaw:  # the next segment was begun after all of this one was durable
            found.verdict = Verdict.DAMAGED
            return found
        if not found.starts:
            found.next_number = first
        if first != found.next_number:
            found.verdict = Verdict.DAMAGED
            found.flaw = f"frame {found.next_number} is missing before {segment_name(first)}"
            return found
        _read_segment(found, data, synced)
        if found.verdict is Verdict.DAMAGED:
            return found
    if synced is not None and found.next_number <= synced:
        found.verdict = Verdict.DAMAGED
        found.flaw = found.flaw or f"frame {found.next_number} is missing, but {synced} was synced"
    return found


def _read_segment(found: Scan, data: bytes, synced: int | None) -> None:
    first, offset = found.next_number, 0
    if found.starts:
        found.whole_bytes = found.valid_bytes
    found.valid_bytes = found.synced_bytes = 0
    while offset < len(data) or offset == 0:
        header = header_at(data, offset)
        payload = None
        if header is not None and header.number == found.next_number:
            payload = payload_at(data, offset, header)
        if header is None or payload is None:
            if offset and not data[offset:].strip(b"\0"):
                return  # space that was reserved; the numbers tell whether anything was here
            found.flaw = f"frame {found.next_number} at byte {offset} of {segment_name(first)}"
            torn = synced is not None and found.next_number > synced
            torn = torn and _is_torn(data, offset, found.next_number)
            found.verdict = Verdict.TORN_TAIL if torn else Verdict.DAMAGED
            return
        try:
            if header.kind != (START if found.next_number == first else BATCH):
                raise MalformedMessage(f"of kind {header.kind!r}")
            if header.kind == START:
                found.begin(decode_start(payload))
            else:
                found.apply(decode_batch(payload))
        except MalformedMessage as error:  # sound bytes, absurd meaning
            found.flaw = f"frame {found.next_number} of {segment_name(first)}: {error}"
            found.verdict = Verdict.DAMAGED
            return
        offset += HEADER_BYTES + len(payload)
        found.valid_bytes = offset
        if synced is not None and found.next_number <= synced:
            found.synced_bytes = offset
        found.next_number += 1


def _is_torn(data: bytes, offset: int, number: int) -> bool:
    """Whether the flaw at `offset`, where frame `number` is due, looks like a write cut short."""
    # The first two frames of a segment are one write.
    if _sound_frame_after(data, offset, number if offset else number + 1):
        return False
    header = header_at(data, offset)
    if header is not None:
        end = offset + HEADER_BYTES + header.length
        return header.number == number and (end > len(data) or _has_zero_sector(data, offset, end))
    end = offset + HEADER_BYTES
    return end > len(data) or _has_zero_sector(data, offset, end)


def _has_zero_sector(data: bytes, low: int, high: int) -> bool:
    """Whether a sector that overlaps [low, high) holds only zeros from `low` on.

    Sectors are looked at to their end or the file's: what lies behind the frame is as new as it.
    """
    while low < high:
        end = low - low % SECTOR_BYTES + SECTOR_BYTES
        if not any(data[low:end]):
            return True
        low = end
    return False


def _sound_frame_after(data: bytes, flaw: int, number: int) -> bool:
    """Whether a frame later than `number` is there.

    One that lies in a user's data may be taken for it, if its number fits: then a torn tail is
    called damage, which costs a rejoin and loses nothing.
    """
    place = data.find(MARKER, flaw + 1)
    while place != -1:
        header = header_at(data, place)
        if (
            header is not None
            and number < header.number <= number + 1 + (place - flaw) // HEADER_BYTES
            and payload_at(data, place, header) is not None
        ):
            return True
        place = data.find(MARKER, place + 1)
    return False
