"""The header in front of every piece of data. Pure: bytes in, a checked value or None out."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

# mark, job digest, generation, sequence, sender, stream, phase, step, index, fingerprint, total
_LAYOUT = struct.Struct("!4s8sQQHBBHIIQ")
_MARK = b"p2d1"
HEADER_BYTES = _LAYOUT.size


class Stream(IntEnum):
    """Independent sequences of operations between two ranks; each keeps its own order."""

    COLLECTIVE = 0
    DIRECT = 1


@dataclass(frozen=True, slots=True)
class Header:
    job: bytes  # 8 bytes, see job_digest
    generation: int
    sequence: int  # which operation of this stream, counted from 0 in every generation
    sender: int  # rank
    stream: Stream
    phase: int
    step: int
    index: int  # chunk
    fingerprint: int  # what the sender believes the operation to be, see fingerprint()
    total: int  # bytes of the whole payload (only a check, never a reason to allocate)

    def pack(self) -> bytes:
        return _LAYOUT.pack(
            *(_MARK, self.job, self.generation, self.sequence, self.sender, self.stream),
            *(self.phase, self.step, self.index, self.fingerprint, self.total),
        )


def unpack(data: bytes | memoryview) -> Header | None:
    """The header, or None when these bytes are none of ours."""
    if len(data) != HEADER_BYTES:
        return None
    mark, job, generation, sequence, sender, stream, *rest = _LAYOUT.unpack(data)
    if mark != _MARK or stream not in (0, 1):
        return None
    return Header(job, generation, sequence, sender, Stream(stream), *rest)


def job_digest(job: str) -> bytes:
    return hashlib.blake2b(job.encode(), digest_size=8).digest()


def fingerprint(*parts: object) -> int:
    """32 bits that differ between operations, and between the sizes and types they work on."""
    return zlib.crc32(repr(parts).encode())
