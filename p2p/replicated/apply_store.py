"""Commands about the key-value store. An absent key has the value None, here and everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

from p2p.replicated.journal import Rejected
from p2p.replicated.state import State
from p2p.replicated.store import STORE_BYTES_MAX, problem_with

Command = Mapping[str, Any]
Result = tuple[State, Mapping[str, Any]]


def put(state: State, command: Command) -> Result:
    return _having(state, command["key"], command["value"]), {}


def delete(state: State, command: Command) -> Result:
    existed = _value(state, command["key"]) is not None
    return _having(state, command["key"], None), {"existed": existed}


def compare_and_set(state: State, command: Command) -> Result:
    """Set `key` to `value` if it is `expected` now; None stands for absent, on both sides."""
    if _value(state, command["key"]) != command["expected"]:
        return state, {"swapped": False}
    return _having(state, command["key"], command["value"]), {"swapped": True}


def _value(state: State, key: Any) -> bytes | None:
    problem = problem_with(key)
    if problem:
        raise Rejected(problem, exit_code=2)
    return state.store.get(key)


def _having(state: State, key: Any, value: Any) -> State:
    problem = problem_with(key, b"" if value is None else value)
    if problem:
        raise Rejected(problem, exit_code=2)
    store = state.store.having(key, value)
    if store.size > STORE_BYTES_MAX and store.size > state.store.size:
        raise Rejected(
            f"the store is full: {key!r} would bring it to {store.size} of {STORE_BYTES_MAX} "
            "bytes; delete other keys first"
        )
    return state.having(store=store)


STORE_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "store.put": put,
    "store.delete": delete,
    "store.compare_and_set": compare_and_set,
}
