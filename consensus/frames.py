"""Frames: how the write-ahead log and the snapshots lie in their files. Pure encoding and checking.

Frame:  header (24 bytes), then the payload. All numbers big-endian.
Header: marker (3 bytes) | kind (1) | length of payload (u32) | number (u64) |
        CRC32C of the payload (u32) | CRC32C of the 20 bytes before (u32).

Frames are numbered without gaps, so a write that went elsewhere, came twice or never arrived is
noticed: in its place there is no frame of the number that is due. A header that is sound tells how
long its frame was meant to be, which separates a frame that was cut short from a damaged one.

CRC32C (Castagnoli) finds every burst up to 32 bits and every 5 flipped bits in frames up to 655
bytes (Koopman, DSN 2002); google-crc32c uses the CPU's instruction: 0.25 µs for a small frame,
7 GB/s or more for a large one.
"""

import struct
from typing import NamedTuple

import google_crc32c

MARKER = b"\xf5rf"
PAYLOAD_BYTES_MAX = 1 << 30
_HEADER = struct.Struct(">3scIQI")
_CHECKSUM = struct.Struct(">I")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size


class Header(NamedTuple):
    """Of a frame; length is that of the payload in bytes."""

    kind: bytes
    length: int
    number: int
    checksum: int


def crc32c(data: bytes, before: int = 0) -> int:
    """CRC32C of what `before` is the checksum of, followed by `data`."""
    checksum: int = google_crc32c.extend(before, data)
    return checksum


def encode_frame(kind: bytes, number: int, payload: bytes) -> bytes:
    """Raises ValueError when the payload is larger than PAYLOAD_BYTES_MAX."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"{len(payload)} bytes are too many for one frame")
    header = _HEADER.pack(MARKER, kind, len(payload), number, crc32c(payload))
    return b"".join((header, _CHECKSUM.pack(crc32c(header)), payload))


def header_at(data: bytes, offset: int) -> Header | None:
    """The header at `offset`; None unless it is there as a whole and sound."""
    end = offset + _HEADER.size
    if end + _CHECKSUM.size > len(data):
        return None
    if crc32c(data[offset:end]) != _CHECKSUM.unpack_from(data, end)[0]:
        return None
    marker, kind, length, number, checksum = _HEADER.unpack_from(data, offset)
    return Header(kind, length, number, checksum) if marker == MARKER else None


def payload_at(data: bytes, offset: int, header: Header) -> bytes | None:
    """The payload of the frame at `offset`; None unless it is there as a whole and sound."""
    start = offset + HEADER_BYTES
    payload = data[start : start + header.length]
    if len(payload) != header.length or crc32c(payload) != header.checksum:
        return None
    return payload
