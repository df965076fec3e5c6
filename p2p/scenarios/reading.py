"""From a scenario's file (TOML: data, no code) to its record. Pure; the format: docs/scenarios.md.

    why = "…"
    peers = 3
    [[step]]
    do = "submit"
    …
    [[must]]
    check = "finished"
    …

Whatever is wrong is one sentence that names the file, which step or check, and the field.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from p2p.errors import Usage
from p2p.scenarios.checks import CHECKS, OneLeader
from p2p.scenarios.scenario import ACTIONS, PEERS_MAX, Scenario, Step

HEAD = ("why", "peers", "slots", "step", "must")
SAID = ("do", "says", "watch", "view")
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def read(text: str, name: str, where: str, folder: str) -> Scenario:
    """`where` is what the file is called in messages. Raises Usage."""
    try:
        head = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"{where} is no TOML: {error}") from error
    for key in head:
        if key not in HEAD:
            raise Usage(f"{where}: there is no {key!r}: a scenario has {', '.join(HEAD)}")
    why, peers = head.get("why"), head.get("peers")
    if not isinstance(why, str) or not why:
        raise Usage(f"{where}: `why` is missing, the sentence that says what is shown")
    if type(peers) is not int or not 1 <= peers <= PEERS_MAX:
        raise Usage(f"{where}: `peers` must be a whole number from 1 to {PEERS_MAX}")
    slots = _fitting(head.get("slots", 1), int, f"{where}: `slots`")
    steps, must = _rows(head, "step", where), _rows(head, "must", where)
    if not steps or not must:
        raise Usage(f"{where}: a scenario has at least one [[step]] and one [[must]]")
    return Scenario(
        name=name,
        why=why,
        peers=peers,
        steps=tuple(_step(row, f"{where}, step {at}") for at, row in enumerate(steps, start=1)),
        must=(
            *(
                _record(CHECKS, "check", row, f"{where}, must {at}")
                for at, row in enumerate(must, start=1)
            ),
            OneLeader(),
        ),
        slots=slots if "slots" in head else None,
        folder=folder,
    )


def _rows(head: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    rows = head.get(key, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Usage(f"{where}: write [[{key}]] before each {key}")
    return rows


def _step(row: Mapping[str, Any], where: str) -> Step:
    action = {name: value for name, value in row.items() if name == "do" or name not in SAID}
    said = {name: value for name, value in row.items() if name in SAID and name != "do"}
    for name, value in said.items():
        if not isinstance(value, str):
            raise Usage(f"{where}: `{name}` must be a text")
    if not said.get("says"):
        raise Usage(f"{where}: `says` is missing, what people are told of it")
    return Step(_record(ACTIONS, "do", action, where), **said)


def _record(known: Mapping[str, type[Any]], key: str, row: Mapping[str, Any], where: str) -> Any:
    kind = row.get(key)
    if not isinstance(kind, str) or kind not in known:
        raise Usage(f"{where}: {key} = {kind!r}: there is {', '.join(known)}")
    record, hints = known[kind], get_type_hints(known[kind])
    fields = {field.name: field for field in dataclasses.fields(record)}
    given = {name: value for name, value in row.items() if name != key}
    for name, value in given.items():
        if name not in fields:
            raise Usage(f"{where}: {kind} has no {name!r}, only {', '.join(fields) or 'nothing'}")
        given[name] = _fitting(value, hints[name], f"{where}: {kind}: `{name}`")
    for name, field in fields.items():
        bare = field.default is dataclasses.MISSING is field.default_factory
        if name not in given and bare:
            raise Usage(f"{where}: {kind} needs `{name}`")
    return record(**given)


def _fitting(value: Any, hint: Any, where: str) -> Any:
    """The value as the field has it; a list becomes a tuple. Raises Usage."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    kinds = kinds if isinstance(hint, UnionType) else [hint]
    for kind in kinds:
        origin = get_origin(kind)
        if origin is tuple:
            if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                return tuple(value)
        elif origin is Mapping:
            if isinstance(value, dict):
                return value
        elif type(value) is kind or (kind is float and type(value) is int):
            return value
    told = " or ".join(_in_words(kind) for kind in kinds)
    raise Usage(f"{where} must be {told}, not {value!r}")


def _in_words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is tuple:
        return "a list of texts"
    return "a table" if origin is Mapping else WORDS[kind]
