"""The host's figures, as psutil reads them from /proc: half a millisecond, once a second."""

import contextlib
from collections.abc import Callable
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
    """Bytes since the host's start."""
    net = _told(psutil.net_io_counters, net_sent="bytes_sent", net_received="bytes_recv")
    disk = _told(psutil.disk_io_counters, disk_read="read_bytes", disk_written="write_bytes")
    return {**net, **disk}


def _told(counters: Callable[[], Any], **fields: str) -> dict[str, int]:
    """By our names; {} where a container hides them."""
    try:
        told = counters()
    except (OSError, RuntimeError):
        return {}
    return {} if told is None else {name: getattr(told, field) for name, field in fields.items()}
