"""Fields of a map that came from elsewhere, each taken out with its type and range. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FRAME_CHARACTERS_MAX = 1024 * 1024
WHOLE_MAX = (1 << 63) - 1


class Malformed(Exception):
    """It is not what this protocol says; the sentence names the field."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A field that is None counts as not given."""

    wire: Mapping[str, Any]

    @staticmethod
    def of(wire: object, what: str) -> "Fields":
        if not isinstance(wire, Mapping) or not all(isinstance(key, str) for key in wire):
            raise Malformed(f"{what} is not a map of names")
        return Fields(wire)

    def has(self, name: str) -> bool:
        return self.wire.get(name) is not None

    def text(
        self,
        name: str,
        most: int = FRAME_CHARACTERS_MAX,
        *,
        least: int = 0,
        default: str | None = None,
    ) -> str:
        """Characters that can be written as UTF-8: no halves of surrogate pairs."""
        value = self._given(name, default)
        if not isinstance(value, str):
            raise Malformed(f"{name} is not a text")
        if not least <= len(value) <= most:
            raise Malformed(f"{name} has {len(value)} characters: from {least} to {most} may be")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise Malformed(f"{name} is not valid Unicode")
        return value

    def whole(
        self, name: str, least: int = 0, most: int = WHOLE_MAX, *, default: int | None = None
    ) -> int:
        return _whole(name, self._given(name, default), least, most)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        value = self._given(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Malformed(f"{name} is {value!r:.50}: it must be a number")
        if not least <= value <= most:  # nor is NaN, nor what no float can hold
            raise Malformed(f"{name} is {value!r:.50}: it must be from {least:g} to {most:g}")
        return float(value)

    def map(self, name: str) -> "Fields":
        return Fields.of(self._given(name, None), name)

    def maps(self, name: str, most: int) -> list["Fields"]:
        return [Fields.of(each, name) for each in self._list(name, most)]

    def texts(self, name: str, most: int, characters: int) -> tuple[str, ...]:
        each = [Fields({name: value}) for value in self._list(name, most)]
        return tuple(one.text(name, characters, least=1) for one in each)

    def wholes(self, name: str, most: int) -> tuple[int, ...]:
        return tuple(_whole(name, value, 0, WHOLE_MAX) for value in self._list(name, most))

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._given(name, [])
        if not isinstance(value, list | tuple):
            raise Malformed(f"{name} is not a list")
        if len(value) > most:
            raise Malformed(f"{name} has {len(value)} entries: {most} may be")
        return list(value)

    def _given(self, name: str, default: Any) -> Any:
        value = self.wire.get(name)
        return default if value is None else value


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Malformed(
            f"{name} is {value!r:.50}: it must be a whole number from {least} to {most}"
        )
    return value
