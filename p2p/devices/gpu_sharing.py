"""The GPUs' figures, read once per host: one of its peers asks the driver, the others read a file.

Whoever finds the file too old asks, and writes it anew; so when that peer ends, another one follows
by itself. The file lies in the user's own runtime folder.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """`uuid` names it whatever its number is; sizes in bytes; None where the driver does not tell:
    `utilization` in percent, `throttled` by heat or failing power."""

    uuid: str
    name: str
    memory_total: int
    memory_used: int
    utilization: float | None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: bool | None = None


class SharedReading:
    """`read`, but not while another process of this host did within `fresh_s` seconds."""

    def __init__(
        self,
        read: Callable[[], Sequence[Gpu]],
        path: Path,
        fresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._path, self._fresh_s, self._clock = read, path, fresh_s, clock
        self._known = [gpu.uuid for gpu in read()]

    def __call__(self) -> Sequence[Gpu]:
        told = self._told()
        if told is not None:
            return told
        found = self._read()
        self._tell(found)
        return found

    def _told(self) -> list[Gpu] | None:
        """None unless it is there, fresh, and of the same GPUs in the same order."""
        try:
            told = json.loads(self._path.read_bytes())
            if not 0.0 <= self._clock() - told["at_s"] < self._fresh_s:
                return None
            found = [_parsed(gpu) for gpu in told["gpus"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if [gpu.uuid for gpu in found] == self._known else None

    def _tell(self, found: Sequence[Gpu]) -> None:
        """A file that cannot be written is read by nobody: then each peer asks for itself."""
        told = {"at_s": self._clock(), "gpus": [asdict(gpu) for gpu in found]}
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            part.write_text(json.dumps(told))
            part.replace(self._path)
        except OSError:
            part.unlink(missing_ok=True)


def _parsed(told: Any) -> Gpu:
    """Raises KeyError or TypeError."""
    gpu = Gpu(**{field.name: told[field.name] for field in fields(Gpu)})
    numbers = (gpu.utilization, gpu.temperature_c, gpu.power_w)
    sound = (
        isinstance(gpu.uuid, str)
        and isinstance(gpu.name, str)
        and type(gpu.memory_total) is type(gpu.memory_used) is int
        and all(number is None or type(number) in (int, float) for number in numbers)
        and isinstance(gpu.throttled, bool | None)
    )
    if not sound:
        raise TypeError("not a GPU's figures")
    return gpu
