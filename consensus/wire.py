"""Strict reading of values that came from another peer or from a disk."""

from typing import Any

UINT_END = 1 << 63
ID_CHARS_MAX = 128


class MalformedMessage(ValueError):
    """Bytes or values that no correct peer writes; the text names the field."""


def as_uint(value: object, name: str) -> int:
    """An int in [0, 2**63). bool is not an int here. Raises MalformedMessage."""
    if type(value) is not int or not 0 <= value < UINT_END:
        raise MalformedMessage(f"{name} is not a whole number in range")
    return value


def as_bool(value: object, name: str) -> bool:
    """True or False. Raises MalformedMessage."""
    if not isinstance(value, bool):
        raise MalformedMessage(f"{name} is not true or false")
    return value


def as_bytes(value: object, name: str) -> bytes:
    """Raises MalformedMessage."""
    if not isinstance(value, bytes):
        raise MalformedMessage(f"{name} is not a byte string")
    return value


def as_id(value: object, name: str) -> str:
    """A peer id: 1 to 128 characters. Raises MalformedMessage."""
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX:
        raise MalformedMessage(f"{name} is not a peer id")
    return value


def as_optional_id(value: object, name: str) -> str | None:
    """A peer id or None. Raises MalformedMessage."""
    return None if value is None else as_id(value, name)


def as_list(value: object, name: str, length: int | None = None) -> list[Any]:
    """A list, of exactly `length` items where given. Raises MalformedMessage."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise MalformedMessage(f"{name} is not a list" + (f" of {length}" if length else ""))
    return value
