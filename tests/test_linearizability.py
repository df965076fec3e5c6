"""The checker on histories with known verdicts, and against trying all orders."""

import time
from itertools import combinations, permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.linearizability import Operation, Verb, applied, check, effect


def op(client: str, told: str, begin: float, end: float | None) -> Operation:
    """`told`: "put 1", "get 1", "get -" (absent), "delete True", "cas 1 2 True", …"""
    verb, *rest = told.split()
    words: list[Any] = [{"-": None, "True": True, "False": False}.get(w, w) for w in rest]
    match verb:
        case "put":
            return Operation(client, "x", "put", words[0], None, begin, end)
        case "get":
            return Operation(client, "x", "get", None, (words or [None])[0], begin, end)
        case "delete":
            return Operation(client, "x", "delete", None, (words or [None])[0], begin, end)
        case _:
            expected, new, *done = words
            result = done[0] if done else None
            return Operation(client, "x", "cas", (expected, new), result, begin, end)


GOOD = {
    "nothing": [],
    "a read of nothing": [op("a", "get -", 0, 1)],
    "one after the other": [op("a", "put 1", 0, 1), op("b", "get 1", 2, 3)],
    "a read during the write sees the new": [op("a", "put 1", 0, 5), op("b", "get 1", 1, 2)],
    "a read during the write sees the old": [op("a", "put 1", 0, 5), op("b", "get -", 1, 2)],
    "old, then new, during one write": [
        *(op("a", "put 1", 0, 9), op("b", "get -", 1, 2), op("c", "get 1", 3, 4)),
    ],
    "two writes at once, either is last": [
        *(op("a", "put 1", 0, 5), op("b", "put 2", 0, 5), op("c", "get 1", 6, 7)),
    ],
    "an unanswered write happened": [op("a", "put 1", 0, None), op("b", "get 1", 5, 6)],
    "an unanswered write never happened": [op("a", "put 1", 0, None), op("b", "get -", 5, 6)],
    "an unanswered write happened late": [
        *(op("a", "put 1", 0, None), op("b", "get -", 5, 6), op("b", "get 1", 7, 8)),
    ],
    "an unanswered cas after an unanswered put": [
        *(op("a", "put 1", 0, None), op("b", "cas 1 2", 1, None), op("c", "get 2", 5, 6)),
    ],
    "a failed cas is explained by an unanswered write": [
        *(op("a", "put 1", 0, 1), op("b", "put 2", 2, None), op("c", "cas 1 3 False", 5, 6)),
    ],
    "two cas at once, one wins": [
        *(op("a", "cas - 1 True", 0, 5), op("b", "cas - 2 False", 0, 5), op("c", "get 1", 6, 7)),
    ],
    "a cas makes what the next expects": [
        *(op("a", "cas - 1 True", 0, 5), op("b", "cas 1 2 True", 0, 5)),
    ],
    "delete finds what was put at once": [op("a", "put 1", 0, 5), op("b", "delete True", 1, 2)],
    "delete, then absent": [
        *(op("a", "put 1", 0, 1), op("b", "delete True", 2, 3), op("c", "get -", 4, 5)),
    ],
    "touching ends may be swapped": [op("a", "put 1", 0, 1), op("b", "get -", 1, 2)],
    "the long write is read, overwritten, and not read again": [
        *(op("a", "put 1", 0, 20), op("b", "get 1", 1, 2), op("c", "put 2", 3, 4)),
        *(op("b", "get 2", 5, 6), op("b", "get 2", 7, 8)),
    ],
    "two unanswered writes of one value are used one after the other": [
        *(op("a", "put 1", 0, None), op("a", "put 1", 1, None), op("b", "get 1", 2, 3)),
        *(op("b", "put 2", 4, 5), op("b", "get 1", 6, 7)),
    ],
    "a write of the value that is there waits for the delete": [
        *(op("a", "put 2", 1, 3), op("b", "delete True", 2, 5), op("c", "put 2", 4, 8)),
        *(op("d", "delete True", 5, 6), op("e", "get 2", 4, 5)),
    ],
}
BAD = {
    "a value nobody wrote": [op("a", "get 7", 0, 1)],
    "an acknowledged write is lost": [op("a", "put 1", 0, 1), op("b", "get -", 2, 3)],
    "a stale read": [
        *(op("a", "put 1", 0, 1), op("a", "put 2", 2, 3), op("b", "get 1", 4, 5)),
    ],
    "new, then old, during one write": [
        *(op("a", "put 1", 0, 9), op("b", "get 1", 1, 2), op("c", "get -", 3, 4)),
    ],
    "two readers disagree on the order of two writes": [
        *(op("a", "put 1", 0, 2), op("b", "put 2", 0, 2)),
        *(op("c", "get 1", 3, 4), op("d", "get 2", 5, 6)),
    ],
    "both of two cas win": [op("a", "cas - 1 True", 0, 5), op("b", "cas - 2 True", 0, 5)],
    "a cas loses against nobody": [op("a", "cas - 1 False", 0, 1)],
    "one unanswered write is used twice": [
        *(op("a", "put 1", 0, None), op("b", "get 1", 2, 3)),
        *(op("b", "put 2", 4, 5), op("b", "get 1", 6, 7)),
    ],
    "an unanswered write before it began": [op("b", "get 1", 0, 1), op("a", "put 1", 2, None)],
    "delete finds nothing though something was put": [
        *(op("a", "put 1", 0, 1), op("b", "delete False", 2, 3)),
    ],
    "back from the dead": [
        *(op("a", "put 1", 0, 1), op("b", "delete True", 2, 3), op("c", "get 1", 4, 5)),
    ],
    "an unanswered cas that could never have been done": [
        *(op("a", "cas 9 1", 0, None), op("b", "get 1", 5, 6)),
    ],
    "a lost update: two increments, one counted": [
        *(op("a", "put 0", 0, 1), op("a", "cas 0 1 True", 2, 4), op("b", "cas 0 1 True", 3, 5)),
    ],
    "a write moved behind a later write": [
        *(op("a", "put 1", 0, 1), op("b", "put 2", 2, 3), op("c", "get 2", 4, 5)),
        op("c", "get 1", 6, 7),
    ],
}


@pytest.mark.parametrize("story", GOOD)
def test_histories_that_are_linearizable(story: str) -> None:
    assert check(GOOD[story]).ok is True


@pytest.mark.parametrize("story", BAD)
def test_histories_that_are_not(story: str) -> None:
    verdict = check(BAD[story])
    assert verdict.ok is False
    assert verdict.key == "x"


def test_the_sentence_names_the_answer_that_is_impossible() -> None:
    later = [op("d", "put 3", 10, 11), op("d", "get 3", 12, 13)]
    told = check([*BAD["a stale read"], *later]).sentence.splitlines()
    assert told == [
        "key 'x': no order of the operations explains this answer:",
        "  b: get -> '1' (4 to 5)",
        "around it:",
        "  a: put '1' (0 to 1)",
        "  a: put '2' (2 to 3)",
    ]


def test_keys_are_apart() -> None:
    other = Operation("b", "y", "get", None, None, 2, 3)
    assert check([op("a", "put 1", 0, 1), other]).ok
    assert check([*BAD["a stale read"], other]).key == "x"


def test_it_gives_up_in_time() -> None:
    writes = [op(f"c{n}", f"put {n}", 0, 100) for n in range(40)]
    reads = [op("r", "get 1", 101, 102), op("r", "get 2", 103, 104)]
    verdict = check([*writes, *reads], max_steps=2_000)
    assert (verdict.ok, verdict.key) == (None, "x")
    assert "undecided" in verdict.sentence


def test_lines_and_back() -> None:
    for operation in [*GOOD["an unanswered cas after an unanswered put"], op("a", "get 1", 0, 1)]:
        assert Operation.from_line(operation.to_line()) == operation


def brute_force(history: list[Operation]) -> bool:
    """Try every order of every choice of the unanswered ones."""
    answered = [o for o in history if o.returned_at is not None]
    unanswered = [o for o in history if o.returned_at is None]
    return any(
        _is_legal(order)
        for count in range(len(unanswered) + 1)
        for chosen in combinations(unanswered, count)
        for order in permutations([*answered, *chosen])
    )


def _is_legal(order: tuple[Operation, ...]) -> bool:
    value = None
    for number, operation in enumerate(order):
        later = order[number + 1 :]
        if any(o.returned_at is not None and o.returned_at < operation.invoked_at for o in later):
            return False
        possible, after = applied(operation, value)
        if operation.returned_at is None:
            possible, after = True, effect(operation, value)
        if not possible:
            return False
        value = after
    return True


VALUES = st.sampled_from(["1", "2", None])


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    verb: Verb = draw(st.sampled_from(["put", "get", "get", "delete", "cas"]))
    begin = draw(st.integers(0, 8))
    end = begin + draw(st.integers(0, 5))
    argument: Any = {"put": draw(st.sampled_from("12")), "cas": (draw(VALUES), "3")}.get(verb)
    result = draw(VALUES) if verb == "get" else draw(st.booleans()) if verb != "put" else None
    is_answered = draw(st.integers(0, 3)) > 0
    return Operation("c", "x", verb, argument, result, begin, end if is_answered else None)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), max_size=5))
def test_as_trying_all_orders(history: list[Operation]) -> None:
    assert check(history).ok is brute_force(history)


def made(seed: int, count: int, clients: int, keys: int, lost: float) -> list[Operation]:
    """A linearizable history: each operation takes effect somewhere between its ends."""
    rng = Random(seed)
    now = dict.fromkeys(range(clients), 0.0)
    plans = []
    for number in range(count):
        client = min(now, key=lambda c: now[c])
        begin = now[client] + rng.random()
        end = begin + rng.random() * 3
        now[client] = end
        plans.append((begin + (end - begin) * rng.random(), number, client, begin, end))
    values: dict[str, str | None] = {}
    history = []
    for _, number, client, begin, end in sorted(plans):
        key = f"k{rng.randrange(keys)}"
        verb: Verb = rng.choice(["put", "get", "get", "delete", "cas"])
        value = values.get(key)
        expected = value if rng.random() < 0.7 else f"{rng.randrange(count)}"
        argument: Any = {"put": f"{number}", "cas": (expected, f"{number}")}.get(verb)
        results = {"get": value, "delete": value is not None, "cas": expected == value}
        name, is_lost = f"c{client}", rng.random() < lost
        operation = Operation(name, key, verb, argument, results.get(verb), begin, end)
        history.append(
            Operation(name, key, verb, argument, None, begin, None) if is_lost else operation
        )
        if not is_lost or rng.random() < 0.5:
            values[key] = effect(operation, value)
    return history


@pytest.mark.parametrize("lost", [0.0, 0.05])
def test_two_thousand_operations_take_less_than_a_second(lost: float) -> None:
    history = made(seed=1, count=2_000, clients=8, keys=5, lost=lost)
    began = time.process_time()
    assert check(history).ok is True
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("seed", range(10))
def test_one_changed_answer_among_many_is_found(seed: int) -> None:
    history = made(seed=seed, count=300, clients=4, keys=3, lost=0.02)
    number = max(n for n, o in enumerate(history) if o.verb == "get" and o.returned_at is not None)
    told = vars(history[number]) | {"result": "never written"}
    history[number] = Operation(**told)
    verdict = check(history)
    assert verdict.ok is False
    assert "never written" in verdict.sentence.splitlines()[1]
