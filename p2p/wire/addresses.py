"""HOST:PORT, as people and peers write it."""

import re
from functools import lru_cache

from p2p.errors import Usage

DEFAULT_PORT = 7700
_ADDRESS = re.compile(r"[A-Za-z0-9:\[][A-Za-z0-9._%:\[\]-]{0,254}:(?P<port>[0-9]{1,5})")


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, or HOST with the default port. Raises Usage."""
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        host, port = text.strip(), str(DEFAULT_PORT)
    if not host or not port.isdigit() or int(port) > 65535:
        raise Usage(f"{text!r} is not HOST:PORT")
    return host, int(port)


def is_address(text: object) -> bool:
    """Whether it is HOST:PORT of a socket that can be connected to."""
    return isinstance(text, str) and _fits(text)


@lru_cache(1_024)  # every message of Raft names one
def _fits(address: str) -> bool:
    match = _ADDRESS.fullmatch(address)
    return match is not None and 0 < int(match["port"]) <= 65_535
