"""What a trainer says of its job, as figures by name. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p.measure.catalog import find
from p2p.measure.history import Summary

Figures = dict[str, Summary | float]
JOBS_MAX = 32
NAMES_MAX = 64  # per job


class JobFigures:
    """Of this peer's trainers; rates need what was said before."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Known] = {}  # the newest last

    def heard(self, job: str, message: Mapping[str, Any], now_s: float) -> Figures:
        """Of a message whose fields were checked; {} where it has no figures."""
        match message["kind"]:
            case "progress":
                return self._progress(job, message, now_s)
            case "figures":
                return self._measured(job, message["figures"])
            case "entered" if message["stall_s"] is not None:
                return {f"job.{job}.stall_s": float(message["stall_s"])}
            case _:
                return {}

    def _progress(self, job: str, message: Mapping[str, Any], now_s: float) -> Figures:
        generation, step = message["generation"], message["step"]
        told: dict[str, Any] = {
            "step": step,
            "samples_per_s": message["samples_per_second"],
            "compression": message.get("compression"),
        }
        known = self._of(job)
        before, known.before = known.before, (generation, step, now_s)
        if before is not None and before[0] == generation and before[1] < step:
            steps_per_s = (step - before[1]) / max(now_s - before[2], 1e-3)
            if message.get("bytes_per_step") is not None:
                told["wire_bytes_per_s"] = message["bytes_per_step"] * steps_per_s
        return {
            f"job.{job}.{name}": float(value)
            for name, value in told.items()
            if isinstance(value, int | float)
        }

    def _measured(self, job: str, figures: Mapping[Any, Any]) -> Figures:
        """Those that are metrics of a job, up to NAMES_MAX names; the task chooses some of them."""
        names = self._of(job).names
        found: Figures = {}
        for told, numbers in figures.items():
            name = f"job.{job}.{told}"
            summary = _summary(numbers)
            if summary is None or find(name) is None:
                continue
            if name in names or len(names) < NAMES_MAX:
                names.add(name)
                found[name] = summary
        return found

    def _of(self, job: str) -> "_Known":
        known = self._jobs.pop(job, None) or _Known()
        self._jobs[job] = known
        if len(self._jobs) > JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        return known


class _Known:
    def __init__(self) -> None:
        self.before: tuple[int, int, float] | None = None  # generation, step, when
        self.names: set[str] = set()


def _summary(numbers: Any) -> Summary | None:
    """Of [least, greatest, mean, last, count], as a trainer sends it."""
    if not isinstance(numbers, list) or len(numbers) != 5:
        return None
    if not all(type(number) in (int, float) for number in numbers):
        return None
    try:
        low, high, mean, last, count = (float(number) for number in numbers)
        told = Summary(low, high, min(max(mean, low), high), last, int(count))
    except (OverflowError, ValueError):
        return None
    return told if told.is_finite and told.low <= told.high and told.count > 0 else None


def checkpoint_figures(message: Mapping[str, Any]) -> Figures:
    """Of parts that a trainer wrote here, as its message has them."""
    parts = message["parts"]
    seconds = max((part["seconds"] for part in parts), default=0.0)
    if seconds <= 0.0:
        return {}
    written = sum(part["bytes"] for part in parts)
    return {"checkpoint.bytes_per_s": written / seconds, "checkpoint.write_s": float(seconds)}
