"""What the lower of two ranks tells the higher one, so that it connects: pure.

It travels over the links, which know whom they talk to and let nobody read along (CURVE). So
whoever knows the password is the rank that was meant, and nobody else knows the keys.
"""

import os
import struct
from dataclasses import dataclass

from collectives.records import KEY_BYTES, GcmSeal, Record

PASSWORD_BYTES = 16
_LAYOUT = struct.Struct(f"!{PASSWORD_BYTES}s{KEY_BYTES}s{KEY_BYTES}s?H")

HELLO = Record(0, 0, 0, 0, PASSWORD_BYTES)  # the higher rank's first, with the password
WELCOME = Record(0, 0, 0, 0, 0)  # the answer


@dataclass(frozen=True, slots=True)
class Offer:
    """Made for one wire, from random bytes; used once."""

    password: bytes
    key_down: bytes  # of what the lower rank sends
    key_up: bytes  # of what the higher rank sends
    sealed: bool
    port: int  # of TCP, or 0 …
    path: str  # … and that of a Unix socket

    @classmethod
    def make(cls, random: bytes, *, sealed: bool, address: int | str) -> "Offer":
        """random: RANDOM_BYTES."""
        password, rest = random[:PASSWORD_BYTES], random[PASSWORD_BYTES:]
        port, path = (address, "") if isinstance(address, int) else (0, address)
        return cls(password, rest[:KEY_BYTES], rest[KEY_BYTES:], sealed, port, path)

    def pack(self) -> bytes:
        start = (self.password, self.key_down, self.key_up, self.sealed, self.port)
        return _LAYOUT.pack(*start) + os.fsencode(self.path)

    @classmethod
    def unpack(cls, data: bytes) -> "Offer":
        """Raises struct.error."""
        password, down, up, sealed, port = _LAYOUT.unpack(data[: _LAYOUT.size])
        return cls(password, down, up, sealed, port, os.fsdecode(data[_LAYOUT.size :]))

    def seals(self) -> tuple[GcmSeal | None, GcmSeal | None]:
        """Of what the lower rank sends, of what the higher one does. Once on each side."""
        return (GcmSeal(self.key_down), GcmSeal(self.key_up)) if self.sealed else (None, None)


RANDOM_BYTES = PASSWORD_BYTES + 2 * KEY_BYTES
