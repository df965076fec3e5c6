"""The frames of the mail between ranks. Pure: bytes in, a checked value or None out."""

import struct
from dataclasses import dataclass
from enum import IntEnum

# mark, group digest, kind, sender, tag, number, extent
_LAYOUT = struct.Struct("!4s8sBIqQQ")
_MARK = b"p2m1"
HEADER_BYTES = _LAYOUT.size


class Kind(IntEnum):
    WHOLE = 0  # a short message: tag, extent = its length; the payload follows
    OFFER = 1  # a long message waits at its sender: tag, number, extent = its length
    TAKE = 2  # send me the one with this number
    REFUSE = 3  # yours with this number does not fit; why follows
    PART = 4  # of mine with this number, from byte extent on; the payload follows
    WITHDRAWN = 5  # mine with this number will not come
    ASK = 6  # how far are you?
    PROGRESS = 7  # number = collectives begun, extent = ended; the name of the last follows
    LEAVE = 8  # I want to leave; extent = collectives ended. Tell me when you have, too
    MAY_LEAVE = 9  # I have
    BROKEN = 10  # the group is over for all of us; why follows


@dataclass(frozen=True, slots=True)
class Letter:
    group: bytes  # 8 bytes
    kind: Kind
    sender: int  # rank
    tag: int = 0
    number: int = 0
    extent: int = 0

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            _MARK, self.group, self.kind, self.sender, self.tag, self.number, self.extent
        )


def unpack(data: bytes | memoryview, group: bytes, size: int) -> Letter | None:
    """The letter, or None when these bytes are none of this group's."""
    if len(data) != HEADER_BYTES:
        return None
    mark, digest, kind, sender, tag, number, extent = _LAYOUT.unpack(data)
    if mark != _MARK or digest != group or sender >= size or kind > max(Kind):
        return None
    return Letter(digest, Kind(kind), sender, tag, number, extent)
