"""What a train job is, as every trainer of it gets it from its peer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2p.errors import Usage
from p2p.task_files import check as check_files
from p2p.training.method import check, submitted

SHARDS_DEFAULT = 12
SHARDS_MAX = 4_096  # every trainer's messages and every generation grow with them


@dataclass(frozen=True)
class JobSpec:
    """None = the task's own default. `task` is a built-in name or FILE.py:Class."""

    id: str
    task: str
    task_class: str
    shards: int = SHARDS_DEFAULT
    seed: int = 0
    threads: int = 1
    name: str = ""
    task_source: bytes | None = None
    task_sha: str | None = None
    task_files: Mapping[str, bytes] | None = None  # what travels with it, by name
    global_batch: int | None = None
    epochs: int | None = None
    steps: int | None = None
    lr: float | None = None
    data: str | None = None
    checkpoint_every: int | None = None
    strategy: str = "ring"
    codec: str = "int32"
    options: Mapping[str, str] | None = None
    allow_nondeterminism: bool = False  # go on without the promise of the same bits


def file_name(task: str) -> str:
    """Of FILE.py:Class, without its folder."""
    return (task.rpartition(":")[0] or "task.py").replace("\\", "/").rpartition("/")[2]


def parse(wire: Mapping[str, Any]) -> JobSpec:
    """Raises Usage, naming the field, when one is missing, unknown or out of range."""
    try:
        spec = JobSpec(**wire)
    except TypeError as error:
        raise Usage(f"bad job: {str(error).removeprefix('JobSpec.__init__() ')}") from error
    for field in ("shards", "threads", "global_batch", "epochs", "steps", "checkpoint_every"):
        value = getattr(spec, field)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise Usage(f"{field} is {value!r}: it must be a whole number from 1 up")
    if type(spec.seed) is not int:
        raise Usage(f"seed is {spec.seed!r}: it must be a whole number")
    if spec.shards > SHARDS_MAX:
        raise Usage(f"shards is {spec.shards}: there may be at most {SHARDS_MAX}")
    if spec.data is not None and not isinstance(spec.data, str):
        raise Usage(f"data is {spec.data!r}: it must be a path")
    if type(spec.allow_nondeterminism) is not bool:
        raise Usage("allow_nondeterminism must be true or false")
    check_files(spec.task_files or {}, file_name(spec.task))
    options = spec.options or {}
    if not isinstance(options, Mapping) or not all(
        isinstance(text, str) for pair in options.items() for text in pair
    ):
        raise Usage("options must map names to texts")
    if spec.lr is not None and not isinstance(spec.lr, int | float):
        raise Usage(f"lr is {spec.lr!r}: it must be a number")
    if spec.lr is not None and not spec.lr > 0:
        raise Usage(f"lr is {spec.lr!r}: it must be greater than 0")
    check(submitted(spec.strategy, spec.codec, options), spec.shards)
    return spec
