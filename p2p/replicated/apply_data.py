"""Commands about datasets: which are known to the cluster, under which name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import msgpack

from p2p.content.messages import is_sha256
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.state import DATASETS_MAX, Dataset, State

Command = Mapping[str, Any]
Result = tuple[State, Mapping[str, Any]]

PATH_CHARACTERS_MAX = 4_096
SCHEMA_BYTES_MAX = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "manifest", "where", "format", "peer"), (str,)),
    **dict.fromkeys(("manifest_bytes", "files", "bytes"), (int,)),
    "samples": (int, type(None)),
    "schema": (dict,),
}


def parse_dataset(told: Mapping[str, Any], at_s: float) -> Dataset:
    """A dataset as it is registered. Raises ValueError, naming what is missing or wrong."""
    wrong = sorted(set(told) ^ set(_FIELDS), key=str)
    wrong += [name for name, kinds in _FIELDS.items() if type(told.get(name)) not in kinds]
    if wrong:
        raise ValueError(f"a dataset's {wrong[0]} is missing or wrong")
    problem = problem_with_name(told["name"])
    if problem:
        raise ValueError(problem)
    numbers = (told["manifest_bytes"], told["files"], told["bytes"], told["samples"] or 0)
    if (
        not is_sha256(told["manifest"])
        or not all(0 <= number < 2**63 for number in numbers)
        or not 0 < len(told["where"]) <= PATH_CHARACTERS_MAX
        or max(len(told["format"]), len(told["peer"])) > 64
        or len(msgpack.packb(told["schema"])) > SCHEMA_BYTES_MAX
    ):
        raise ValueError("a dataset's manifest, sizes, path or schema is out of range")
    return Dataset(**told, at_s=at_s)


def problem_with_name(name: str) -> str | None:
    """Why it cannot be a dataset's name."""
    if _NAME.fullmatch(name):
        return None
    return f"{name[:80]!r} is no name for a dataset: 1 to 64 letters, digits, . _ -"


def register(state: State, command: Command) -> Result:
    """The same again changes nothing; a name never changes its meaning."""
    made = parse_dataset(dict(command["dataset"]), float(command["at_s"]))
    known = state.datasets.get(made.name)
    answer = {"name": made.name, "content": f"sha256:{made.manifest}"}
    if known is not None and known.manifest == made.manifest and known.where == made.where:
        return state, answer
    if known is not None:
        raise Rejected(
            f"{made.name} is registered already, from {known.where} with content "
            f"{known.manifest[:12]}…: give another name, or `p2pnode data drop {made.name}` first"
        )
    if len(state.datasets) >= DATASETS_MAX:
        raise Rejected(f"there are {DATASETS_MAX} datasets already: drop one first")
    state = replace(state, datasets={**state.datasets, made.name: made})
    text = f"dataset {made.name} was registered: {made.files} files, {made.bytes} bytes"
    return with_event(state, command, "data-registered", text, peer=made.peer), answer


def drop(state: State, command: Command) -> Result:
    name = str(command["name"])
    if name not in state.datasets:
        raise Rejected(f"there is no dataset {name}")
    users = [job.id for job in state.jobs.values() if not job.is_final and uses(job.spec, name)]
    if users:
        raise Rejected(f"{name} is used by {', '.join(users)}: let them end or cancel them")
    others = {id_: dataset for id_, dataset in state.datasets.items() if id_ != name}
    state = replace(state, datasets=others)
    return with_event(state, command, "data-dropped", f"dataset {name} was dropped"), {"name": name}


def uses(spec: Mapping[str, Any], name: str) -> bool:
    dataset = spec.get("dataset")
    return isinstance(dataset, dict) and dataset.get("name") == name


DATA_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "data.register": register,
    "data.drop": drop,
}
assert set(_FIELDS) == {each.name for each in fields(Dataset)} - {"at_s"}
