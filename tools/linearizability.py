"""Does a history of client operations have an order that a single register could have had?

The search is Wing & Gong's (Testing and Verifying Concurrent Objects, 1993) with the memoisation
of Lowe (Testing for Linearizability, 2017), one key after the other: linearizability is local
(Herlihy & Wing, 1990). Two shortcuts keep it linear in practice; both lose no order:

- An operation that changes nothing wherever its answer is possible (a read, a failed cas) comes
  next as soon as it can: it is in nobody's way.
- An operation of unknown outcome (its answer never came) is only ever placed directly before one
  that is impossible without it; anywhere else it could as well come later or never.

python -m tools.linearizability FILE checks a file of `Operation.to_line()` lines.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

MAX_STEPS = 500_000
"""Places looked at per key before the verdict is "undecided" (some seconds)."""

Verb = Literal["put", "get", "delete", "cas"]


@dataclass(frozen=True)
class Operation:
    """What one client saw. Times are of one clock, in any unit; `returned_at` None: no answer.

    | verb | argument | result |
    | put | the value | not looked at |
    | get | None | the value, None when absent |
    | delete | None | whether there was a value; None: not told |
    | cas | (expected, new), expected None: absent | whether it was done |

    An operation that was refused for certain is no part of a history.
    """

    client: str
    key: str
    verb: Verb
    argument: Any
    result: Any
    invoked_at: float
    returned_at: float | None

    def to_line(self) -> str:
        """As JSON, for a file; values are text or None there."""
        return json.dumps(vars(self))

    @classmethod
    def from_line(cls, line: str) -> "Operation":
        fields = json.loads(line)
        argument = fields.pop("argument")
        return cls(argument=tuple(argument) if isinstance(argument, list) else argument, **fields)

    def __str__(self) -> str:
        told = {
            "put": f"put {self.argument!r}",
            "get": "get",
            "delete": "delete",
            "cas": f"cas {self.argument}",
        }[self.verb]
        if self.returned_at is None:
            return f"{self.client}: {told}, no answer ({self.invoked_at:g} to ?)"
        answer = "" if self.verb == "put" else f" -> {self.result!r}"
        return f"{self.client}: {told}{answer} ({self.invoked_at:g} to {self.returned_at:g})"


@dataclass(frozen=True)
class Verdict:
    """`ok` None: undecided within the bound. `key`: where it failed (or was not decided)."""

    ok: bool | None
    key: str | None
    sentence: str


def check(history: Iterable[Operation], max_steps: int = MAX_STEPS) -> Verdict:
    """A failure is worth more than an undecided key, so all keys are looked at."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        keys.setdefault(operation.key, []).append(operation)
    undecided: Verdict | None = None
    for key, operations in keys.items():
        found = _has_order(operations, max_steps)
        if found is False:
            return Verdict(False, key, _explained(key, operations, max_steps))
        if found is None:
            told = f"undecided: key {key!r} has too many operations at once to try all orders"
            undecided = undecided or Verdict(None, key, told)
    count = sum(map(len, keys.values()))
    return undecided or Verdict(True, None, f"{count} operations on {len(keys)} keys: linearizable")


def applied(operation: Operation, value: Any) -> tuple[bool, Any]:
    """The register: is this result possible when the value is `value`, and what is it then?"""
    match operation.verb:
        case "put":
            return True, operation.argument
        case "get":
            return operation.result == value, value
        case "delete":
            return operation.result in (None, value is not None), None
        case "cas":
            expected, new = operation.argument
            done = expected == value
            return operation.result == done, new if done else value


def effect(operation: Operation, value: Any) -> Any:
    """The value after it, whatever was answered."""
    if operation.verb == "cas":
        expected, new = operation.argument
        return new if expected == value else value
    return applied(operation, value)[1]


class _Place(NamedTuple):
    """A point of the search: all answered operations before `first` are placed, and those of the
    bits in `ahead` (bit 0: `first`); of the unanswered ones those in `used`."""

    first: int
    ahead: int
    used: int
    value: Any


def _has_order(operations: list[Operation], max_steps: int) -> bool | None:
    """None: not decided within max_steps."""
    answered = sorted(
        (o for o in operations if o.returned_at is not None), key=lambda o: o.invoked_at
    )
    open_ends = sorted(
        (o for o in operations if o.returned_at is None and o.verb != "get"),
        key=lambda o: o.invoked_at,
    )
    todo = [_Place(0, 0, 0, None)]
    seen = set(todo)
    while todo:
        place = todo.pop()
        if place.first == len(answered):
            return True
        if len(seen) > max_steps:
            return None
        for after in _nexts(place, answered, open_ends):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return False


def _nexts(
    place: _Place, answered: list[Operation], open_ends: list[Operation]
) -> Iterator[_Place]:
    """Places one answered operation further (with the unanswered ones it needs before it)."""
    may_be_next, by = _candidates(place, answered)
    writers: list[int] = []
    for number in may_be_next:
        possible, value = applied(answered[number], place.value)
        if possible and (answered[number].verb == "get" or answered[number].result is False):
            yield _moved(place, number, value, place.used)
            return
        writers.append(number)
    # The last one yielded is looked at first: what returned first is tried first.
    for number in sorted(writers, key=lambda n: -_end(answered[n])):
        possible, value = applied(answered[number], place.value)
        if possible:
            yield _moved(place, number, value, place.used)
            continue
        for used, before in _chains(open_ends, by, place.used, place.value):
            possible, value = applied(answered[number], before)
            if possible:
                yield _moved(place, number, value, used)


def _end(operation: Operation) -> float:
    assert operation.returned_at is not None
    return operation.returned_at


def _candidates(place: _Place, answered: list[Operation]) -> tuple[list[int], float]:
    """Those that began before every other one had ended, and when the first of all ended."""
    by = float("inf")
    found = []
    for number in range(place.first, len(answered)):
        operation = answered[number]
        if operation.invoked_at > by:
            break
        if not place.ahead >> (number - place.first) & 1:
            found.append(number)
            by = min(by, _end(operation))
    return [number for number in found if answered[number].invoked_at <= by], by


def _moved(place: _Place, number: int, value: Any, used: int) -> _Place:
    first, ahead = place.first, place.ahead | 1 << (number - place.first)
    while ahead & 1:
        first, ahead = first + 1, ahead >> 1
    return _Place(first, ahead, used, value)


def _chains(
    open_ends: list[Operation], by: float, used: int, value: Any
) -> Iterator[tuple[int, Any]]:
    """Each useful row of unanswered operations begun by then: (used afterwards, value after it).

    What does not look at the value makes those before it pointless, so it only opens a row.
    """
    todo = [(used, value, True)]
    while todo:
        used, value, is_start = todo.pop()
        alike = set()
        for number, operation in enumerate(open_ends):
            if operation.invoked_at > by:
                break
            same = operation.verb, operation.argument
            after = effect(operation, value)
            is_useful = after != value and (is_start or operation.verb == "cas")
            if used >> number & 1 or not is_useful or same in alike:
                continue
            alike.add(same)
            yield used | 1 << number, after
            todo.append((used | 1 << number, after, False))


def _explained(key: str, operations: list[Operation], max_steps: int) -> str:
    """The answer that made it impossible, and what matters around it."""
    ends = sorted({_end(o) for o in operations if o.returned_at is not None})
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if _has_order(_until(operations, ends[middle]), max_steps) is False:
            high = middle
        else:
            low = middle + 1
    history = _until(operations, ends[low])
    culprit = next(o for o in history if o.returned_at == ends[low])
    lines = [
        f"key {key!r}: no order of the operations explains this answer:",
        f"  {culprit}",
        "around it:",
        *(f"  {o}" for o in sorted(_around(culprit, history), key=lambda o: o.invoked_at)),
    ]
    return "\n".join(lines)


def _until(operations: list[Operation], end: float) -> list[Operation]:
    """The history as it was known at `end`: later answers have not come yet."""
    return [
        replace(o, returned_at=None) if o.returned_at is None or o.returned_at > end else o
        for o in operations
        if o.invoked_at <= end
    ]


def _around(culprit: Operation, history: list[Operation], limit: int = 12) -> list[Operation]:
    """What overlaps it, what wrote the value it saw, and the last that ended before it began."""
    others = [o for o in history if o is not culprit]
    ended = [o for o in others if o.returned_at is not None and _end(o) < culprit.invoked_at]
    ended.sort(key=_end)
    wrote = [
        o
        for o in others
        if (o.verb == "put" and o.argument == culprit.result)
        or (o.verb == "cas" and o.argument[1] == culprit.result)
    ]
    overlapping = [o for o in others if o not in ended]
    writes = [o for o in ended if o.verb != "get"]
    return list(dict.fromkeys([*writes[-2:], *ended[-1:], *wrote[-2:], *overlapping[-limit:]]))


def main(arguments: list[str]) -> int:
    lines = Path(arguments[0]).read_text().splitlines()
    verdict = check(map(Operation.from_line, lines))
    print(verdict.sentence)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
