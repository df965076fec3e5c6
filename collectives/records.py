"""What travels over a wire: records of a header and a payload, sealed where others could read.

Sealed means AES-256-GCM (NIST SP 800-38D). Each direction of each wire has a key of its own, made
for it at random and used for nothing else; the nonce is the number of the piece in that direction,
counted by both ends and never sent. So no nonce comes twice with a key, and a piece that was
changed, left out, repeated, moved or sent back to its sender does not open.
"""

import struct
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collectives.errors import OutOfStep

KEY_BYTES = 32
TAG_BYTES = 16
_NONCE_BYTES = 12
_LAYOUT = struct.Struct("!IIBII")  # sequence, fingerprint, hop, chunk, payload's length
RECORD_BYTES = _LAYOUT.size


class Record(NamedTuple):
    """The header of a chunk of a collective."""

    sequence: int  # which collective of the generation
    fingerprint: int  # what its sender believes it to be
    hop: int
    chunk: int
    length: int  # bytes of the payload

    def pack(self) -> bytes:
        return _LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> "Record":
        return cls(*_LAYOUT.unpack(data))


class Seal(Protocol):
    """One direction of a wire: every piece passes `close` on one side and `open` on the other."""

    extra: int  # bytes by which a piece grows

    def close(self, piece: bytes | memoryview, out: memoryview) -> None:
        """`out` has the length of piece + extra."""

    def open(self, piece: memoryview, out: memoryview) -> None:
        """`out` has the length of piece - extra. Raises OutOfStep, and `out` means nothing."""


class GcmSeal:
    """Use one object for one direction only."""

    extra = TAG_BYTES

    def __init__(self, key: bytes) -> None:
        self._cipher, self._count = AESGCM(key), 0

    def close(self, piece: bytes | memoryview, out: memoryview) -> None:
        self._cipher.encrypt_into(self._nonce(), piece, None, out)

    def open(self, piece: memoryview, out: memoryview) -> None:
        try:
            self._cipher.decrypt_into(self._nonce(), piece, None, out)
        except InvalidTag as error:
            raise OutOfStep("data was changed on its way") from error

    def _nonce(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(_NONCE_BYTES, "big")
