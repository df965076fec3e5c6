"""Rules about machines: disks that fill up, GPUs that are hot or held back. Pure."""

from collections.abc import Iterator

from p2p.replicated.state import Checkpoint
from p2p.watch.facts import Facts
from p2p.watch.rule import Finding, Rule

CHECKPOINTS_AHEAD = 3  # a disk should hold so many more of the largest that a job has


def _disk(facts: Facts, limit: float) -> Iterator[Finding]:
    """`limit` bytes, or room for the next checkpoints where those are large."""
    sizes = [_bytes(job.checkpoint) for job in facts.running if job.checkpoint]
    wanted = max(limit, CHECKPOINTS_AHEAD * max(sizes, default=0))
    for figure in facts.figures("system.disk_free_bytes"):
        if figure.value < wanted:
            text = (
                f"the disk of {facts.name(figure.peer)} is soon full: {figure.value / 1e9:.1f} GB "
                f"are free, {wanted / 1e9:.1f} GB should be"
            )
            yield Finding(text, figure.metric, figure.value, peer=figure.peer)


def _bytes(made: Checkpoint) -> int:
    """Each part once."""
    return sum({part.number: part.bytes for part in made.parts}.values())


def _gpu_hot(facts: Facts, limit: float) -> Iterator[Finding]:
    for figure in facts.figures("gpu.*.temperature_c"):
        if figure.value >= limit:
            text = f"{_gpu(facts, figure.peer, figure.metric)} has {figure.value:.0f} °C"
            yield Finding(text, figure.metric, figure.value, peer=figure.peer, place=figure.metric)


def _gpu_throttled(facts: Facts, limit: float) -> Iterator[Finding]:
    for figure in facts.figures("gpu.*.throttled"):
        if figure.value >= limit:
            text = (
                f"{_gpu(facts, figure.peer, figure.metric)} is held back by its heat or power limit"
            )
            yield Finding(text, figure.metric, figure.value, peer=figure.peer, place=figure.metric)


def _gpu(facts: Facts, peer: str, metric: str) -> str:
    return f"GPU {metric.split('.')[1]} of {facts.name(peer)}"


RULES = (
    Rule(
        "disk-full",
        "warning",
        "machines",
        "a disk is soon full, in bytes free",
        _disk,
        threshold=2e9,
        clear=3e9,
        for_s=5.0,
        clear_s=10.0,
        command="p2pnode checkpoints JOB",
    ),
    Rule(
        "gpu-hot",
        "warning",
        "machines",
        "a GPU is hot, in degrees Celsius",
        _gpu_hot,
        threshold=85.0,
        clear=80.0,
        for_s=20.0,
        clear_s=20.0,
        command="nvidia-smi -q -d TEMPERATURE",
    ),
    Rule(
        "gpu-throttled",
        "warning",
        "machines",
        "a GPU's driver holds it back",
        _gpu_throttled,
        for_s=20.0,
        clear_s=20.0,
        command="nvidia-smi -q -d PERFORMANCE",
    ),
)
