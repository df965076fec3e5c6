"""Frames between a peer and its trainer: a 4-byte big-endian length, then a msgpack map.

Pure: bytes in, messages out. Both ends use it; nothing here imports torch.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

FRAME_BYTES_MAX = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class MalformedFrame(Exception):
    """The other end does not speak this protocol; the stream cannot be used any further."""


def encode(message: Message) -> bytes:
    """One frame. Raises MalformedFrame when the message is larger than a frame may be."""
    body: bytes = msgpack.packb(message)
    if len(body) > FRAME_BYTES_MAX:
        raise MalformedFrame(f"{message.get('kind')} takes {len(body)} bytes, too many for a frame")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Collects bytes as they come and gives back whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages completed by `data`, in order. Raises MalformedFrame on anything else."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > FRAME_BYTES_MAX:
                raise MalformedFrame(f"a frame of {size} bytes")
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _unpack(body)


def _unpack(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedFrame(f"a frame that is not msgpack: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise MalformedFrame("a frame without a kind")
    return message
