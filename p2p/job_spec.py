"""What a submitted train job is, checked before it enters the log. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from p2p import task_files
from p2p.errors import Usage
from p2p.training.spec import JobSpec, parse

_PLACED_BY_CLUSTER = ("id", "name")
# Nothing that trainers are told.
_FOR_PLACEMENT = ("peers_min", "peers_max", "priority", "dataset", "keep_checkpoints")
PRIORITY_MAX = 1_000


def checked(args: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as the log keeps it. Raises Usage, naming the field that is wrong."""
    task = str(args.get("task", ""))
    known = set(JobSpec.__dataclass_fields__) - {*_PLACED_BY_CLUSTER, "task_class", "task_sha"}
    unknown = sorted(set(args) - known - {*_FOR_PLACEMENT, "name"})
    if unknown:
        raise Usage(f"a job has no field {unknown[0]!r}")
    source = args.get("task_source")
    file, _, class_name = task.rpartition(":")
    if file and not isinstance(source, bytes):
        raise Usage(f"the source of {file} is missing from the request")
    spec = parse(
        {
            **{name: value for name, value in args.items() if name in known and value is not None},
            "id": "",
            "task": task,
            "task_class": class_name,
        }
    )
    if isinstance(source, bytes):
        spec = replace(spec, task_sha=task_files.digest(source, spec.task_files or {}))
        if len(source) + sum(map(len, (spec.task_files or {}).values())) > task_files.BYTES_MAX:
            raise Usage(task_files.too_large(file))
    placed = {"peers_min": _count(args, "peers_min"), "peers_max": _count(args, "peers_max")}
    least, most = placed["peers_min"], placed["peers_max"]
    if least and most and least > most:
        raise Usage(f"--peers {least}:{most}: the first number must not be the larger one")
    if least and least > spec.shards:
        raise Usage(f"--peers {least} needs at least as many shards: --shards {least} or more")
    fields = {name: value for name, value in asdict(spec).items() if name not in _PLACED_BY_CLUSTER}
    dataset = args.get("dataset")
    named = {"dataset": dict(dataset)} if dataset else {}
    kept = _count(args, "keep_checkpoints")
    keeps = {"keep_checkpoints": kept} if kept else {}
    return {**fields, **placed, **_priority(args), **named, **keeps}


def for_trainers(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The job as its trainers get it; how many peers it wants does not concern them."""
    return {name: value for name, value in spec.items() if name not in _FOR_PLACEMENT}


def _priority(args: Mapping[str, Any]) -> dict[str, int]:
    value = args.get("priority") or 0
    if type(value) is not int or abs(value) > PRIORITY_MAX:
        raise Usage(
            f"priority is {value!r}: it must be a whole number from {-PRIORITY_MAX} to "
            f"{PRIORITY_MAX}"
        )
    return {"priority": value} if value else {}


def default_name(spec: Mapping[str, Any]) -> str:
    """The built-in's name, or the class in the user's file."""
    return str(spec["task_class"] or spec["task"])


def _count(args: Mapping[str, Any], name: str) -> int | None:
    value = args.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or value < 1:
        raise Usage(f"{name} is {value!r}: it must be a whole number from 1 up")
    return value
