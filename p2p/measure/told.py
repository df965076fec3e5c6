"""The small set of newest figures that every peer tells and the leader passes on. Pure.

What comes from other peers is trimmed to what it may be, not refused: a figure that this version
does not know is still a number by a name.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

from p2p.measure.catalog import NAME_CHARACTERS_MAX
from p2p.view import Vitals

FIGURES_MAX = 64  # per peer
PEERS_MAX = 100  # in a larger cluster the digest has no figures: each peer is asked for its own


def parse_figures(value: Any) -> dict[str, float]:
    """Numbers by name, as far as it is that."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, float] = {}
    for name, number in value.items():
        if len(found) == FIGURES_MAX:
            break
        if isinstance(name, str) and len(name) <= NAME_CHARACTERS_MAX and _is_number(number):
            found[name] = float(number)
    return found


def to_table(figures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Of all peers, with every name once."""
    if len(figures) > PEERS_MAX:
        return {"names": [], "rows": {}}
    names = sorted({name for told in figures.values() for name in told})
    rows = {peer: [told.get(name) for name in names] for peer, told in figures.items()}
    return {"names": names, "rows": rows}


def parse_table(value: Any) -> dict[str, dict[str, float]]:
    """By peer; {} for what is no table."""
    names = value.get("names") if isinstance(value, dict) else None
    rows = value.get("rows") if isinstance(value, dict) else None
    if not isinstance(names, list) or not isinstance(rows, dict):
        return {}
    texts = [name if isinstance(name, str) else "" for name in names]
    return {
        str(peer): parse_figures({n: v for n, v in zip(texts, row, strict=False) if n})
        for peer, row in rows.items()
        if isinstance(row, list)
    }


def latest(vitals: Mapping[str, Vitals]) -> dict[str, dict[str, float]]:
    """By peer and name: what everybody tells, and what else is heard of them."""
    return {peer: {**_heard(told), **told.figures} for peer, told in sorted(vitals.items())}


def _heard(vitals: Vitals) -> dict[str, float]:
    """From what reports had before there were figures, so that older peers are shown as well."""
    told: dict[str, Any] = {
        "process.rss_bytes": vitals.rss,
        "process.cpu_percent": vitals.cpu_percent,
    }
    for number, gpu in enumerate(vitals.gpus):
        told[f"gpu.{number}.busy_percent"] = gpu.get("utilization")
        told[f"gpu.{number}.memory_bytes"] = gpu.get("memory_used")
    for job, progress in vitals.trainers.items():
        told[f"job.{job}.loss"] = progress.get("loss")
        told[f"job.{job}.step"] = progress.get("step")
        told[f"job.{job}.samples_per_s"] = progress.get("samples_per_second")
        told[f"job.{job}.compression"] = progress.get("compression")
    return {name: float(cast(float, number)) for name, number in told.items() if _is_number(number)}


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False
