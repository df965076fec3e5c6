"""The header in front of every piece of data. Pure: bytes in, a checked value or None out."""

import hashlib
import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

# mark, job digest, generation, sender, stream, part, sequence, chunk, fingerprint, total
_LAYOUT = struct.Struct("!4s8sQHBBQIIQ")
_MARK = b"p2d2"
HEADER_BYTES = _LAYOUT.size


class Stream(IntEnum):
    """Independent sequences of operations between two ranks; each keeps its own order."""

    CONTROL = 0  # one frame when a member opens its links, and one when it leaves in order
    COLLECTIVE = 1
    MESSAGE = 2
    MEMORY = 3  # where memory lies that members on one host share
    WIRE = 4  # where a member listens for others' connections


class Control(IntEnum):
    """`part` of a CONTROL header."""

    HELLO = 0
    FAREWELL = 1  # leaves in order: nothing more comes over this link
    BROKEN = 2  # has ended the generation; what was on its way is dropped, a hello perhaps among it


class Header(NamedTuple):
    job: bytes  # 8 bytes, see job_digest
    generation: int
    sender: int  # rank
    stream: Stream
    part: int  # hop of a collective
    sequence: int  # which operation of this stream, counted in every generation
    chunk: int
    fingerprint: int  # what the sender believes the operation to be; a message's tag
    total: int  # bytes of the whole payload (only a check, never a reason to allocate)

    def pack(self) -> bytes:
        return _LAYOUT.pack(_MARK, *self)


def unpack(data: bytes | memoryview) -> Header | None:
    """The header, or None when these bytes are none of ours."""
    if len(data) != HEADER_BYTES:
        return None
    mark, job, generation, sender, stream, *rest = _LAYOUT.unpack(data)
    if mark != _MARK or stream > Stream.WIRE:
        return None
    return Header(job, generation, sender, Stream(stream), *rest)


def job_digest(job: str) -> bytes:
    return hashlib.blake2b(job.encode(), digest_size=8).digest()


def fingerprint(*parts: object) -> int:
    """32 bits that differ between operations, and between the sizes and types they work on."""
    return zlib.crc32(repr(parts).encode())
