"""What a trainer says of its job, as figures by name. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p.measure.history import Summary

Figures = dict[str, Summary | float]


class JobFigures:
    """Of this peer's trainers; rates need what was said before."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int, float]] = {}  # generation, step, when; by job

    def heard(self, job: str, message: Mapping[str, Any], now_s: float) -> Figures:
        """Of a message whose fields were checked; {} where it has no figures."""
        match message["kind"]:
            case "progress":
                return self._progress(job, message, now_s)
            case "entered" if message["stall_s"] is not None:
                return {f"job.{job}.stall_s": float(message["stall_s"])}
            case _:
                return {}

    def _progress(self, job: str, message: Mapping[str, Any], now_s: float) -> Figures:
        generation, step = message["generation"], message["step"]
        told: dict[str, Any] = {
            "step": step,
            "loss": message.get("loss"),
            "samples_per_s": message["samples_per_second"],
            "compression": message.get("compression"),
        }
        before = self._before.get(job)
        self._before[job] = generation, step, now_s
        if before is not None and before[0] == generation and before[1] < step:
            steps_per_s = (step - before[1]) / max(now_s - before[2], 1e-3)
            if message.get("bytes_per_step") is not None:
                told["wire_bytes_per_s"] = message["bytes_per_step"] * steps_per_s
        return {
            f"job.{job}.{name}": float(value)
            for name, value in told.items()
            if isinstance(value, int | float)
        }


def checkpoint_figures(message: Mapping[str, Any], self_id: str) -> Figures:
    """Of a part that was written here, not of one that was fetched."""
    parts = [part for part in message["parts"] if part.get("peer", self_id) == self_id]
    seconds = max((part["seconds"] for part in parts), default=0.0)
    if seconds <= 0.0:
        return {}
    written = sum(part["bytes"] for part in parts)
    return {"checkpoint.bytes_per_s": written / seconds, "checkpoint.write_s": float(seconds)}
