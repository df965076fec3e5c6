"""The host's figures, as psutil reads them from /proc: half a millisecond, once a second."""

import contextlib
from typing import Any, Protocol

import psutil


class System(Protocol):
    def read(self, now_s: float) -> dict[str, float]:
        """By name; without those that this host does not tell. `now_s` = monotonic seconds."""


class MemorySystem:
    """The twin: says what it was told."""

    def __init__(self, **figures: float) -> None:
        self.figures = figures

    def read(self, now_s: float) -> dict[str, float]:
        return {f"system.{name}": value for name, value in self.figures.items()}


class HostSystem:
    """`data_dir`: the disk of which free space is told."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self._counted: tuple[float, dict[str, int]] | None = None
        psutil.cpu_percent()  # the first answer is since the call before

    def read(self, now_s: float) -> dict[str, float]:
        memory = psutil.virtual_memory()
        found = {
            "system.cpu_percent": psutil.cpu_percent(),
            "system.load_1m": psutil.getloadavg()[0],
            "system.memory_bytes": float(memory.total - memory.available),
            "system.memory_total_bytes": float(memory.total),
        }
        with contextlib.suppress(OSError):
            disk = psutil.disk_usage(self._data_dir)
            found["system.disk_free_bytes"] = float(disk.free)
            found["system.disk_total_bytes"] = float(disk.total)
        return {**found, **self._rates(now_s)}

    def _rates(self, now_s: float) -> dict[str, float]:
        counted, before = _counters(), self._counted
        self._counted = now_s, counted
        if before is None or now_s <= before[0]:
            return {}
        passed_s = now_s - before[0]
        return {
            f"system.{name}_bytes_per_s": max(0.0, (count - before[1][name]) / passed_s)
            for name, count in counted.items()
            if name in before[1]
        }


def _counters() -> dict[str, int]:
    """Bytes since the host's start; not where a container hides them."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
        net: Any = psutil.net_io_counters()
        if net is not None:
            found |= {"net_sent": net.bytes_sent, "net_received": net.bytes_recv}
    with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
        disk: Any = psutil.disk_io_counters()
        if disk is not None:
            found |= {"disk_read": disk.read_bytes, "disk_written": disk.write_bytes}
    return found
