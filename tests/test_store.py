"""The key-value store: its commands, its bounds, its order, and that it stays quick."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.replicated import apply_store
from p2p.replicated.apply import apply
from p2p.replicated.state import State
from p2p.replicated.store import KEY_OVERHEAD_BYTES, VALUE_BYTES_MAX, Store, StoreBuilder


def done(state: State, kind: str, key: Any, **args: Any) -> tuple[State, Any]:
    return apply(state, {"type": f"store.{kind}", "key": key, **args})


def with_keys(**values: bytes) -> State:
    state = State()
    for key, value in values.items():
        state, answer = done(state, "put", key, value=value)
        assert answer == {}
    return state


def test_put_and_delete() -> None:
    state = with_keys(a=b"1", b=b"")
    assert (state.store.get("a"), state.store.get("b"), state.store.get("c")) == (b"1", b"", None)
    state, answer = done(state, "delete", "a")
    assert answer == {"existed": True}
    assert done(state, "delete", "a") == (state, {"existed": False})
    assert done(state, "delete", "b")[0].store == Store()


@pytest.mark.parametrize(
    ("expected", "value", "swapped"),
    [
        (b"1", b"2", True),
        (b"1", None, True),
        (b"x", b"2", False),
        (None, b"2", False),
        (b"", b"2", False),
        ("1", b"2", False),
    ],
)
def test_compare_and_set(expected: Any, value: bytes | None, swapped: bool) -> None:
    state = with_keys(a=b"1")
    after, answer = done(state, "compare_and_set", "a", expected=expected, value=value)
    assert answer == {"swapped": swapped}
    assert after.store.get("a") == (value if swapped else b"1")


def test_absent_is_none_on_both_sides() -> None:
    state, answer = done(State(), "compare_and_set", "a", expected=None, value=b"1")
    assert answer == {"swapped": True}
    assert state.store.get("a") == b"1"
    assert done(State(), "compare_and_set", "a", expected=None, value=None) == (
        State(),
        {"swapped": True},
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("", b"", "a key is a text of 1 to 256 characters"),
        ("k" * 257, b"", "a key is a text of 1 to 256 characters"),
        (b"k", b"", "a key is a text of 1 to 256 characters"),
        (None, b"", "a key is a text of 1 to 256 characters"),
        ("\ud800", b"", "half a character"),
        ("k", b"v" * (VALUE_BYTES_MAX + 1), "at most 65536 bytes"),
        ("k", "text", "at most 65536 bytes"),
        ("k", 7, "at most 65536 bytes"),
    ],
)
def test_what_cannot_be_stored_is_named(key: Any, value: Any, said: str) -> None:
    for kind in ("put", "compare_and_set"):
        after, answer = done(State(), kind, key, value=value, expected=None)
        assert after == State()
        assert said in answer["error"]
        assert answer["exit_code"] == 2


def test_a_full_store_says_so_and_still_takes_what_makes_it_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = with_keys(a=b"v" * 50)
    full = state.store.size
    assert full == 51 + KEY_OVERHEAD_BYTES
    monkeypatch.setattr(apply_store, "STORE_BYTES_MAX", full)
    after, answer = done(state, "put", "b", value=b"")
    assert after is state
    assert "the store is full" in answer["error"]
    assert done(state, "put", "a", value=b"w" * 50)[1] == {}
    monkeypatch.setattr(apply_store, "STORE_BYTES_MAX", 10)  # a newer version may allow less
    assert done(state, "put", "a", value=b"v")[0].store.size < full


KEYS = st.text(min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=60))
def test_it_is_a_map_that_knows_its_size_and_one_order(changes: list[Any]) -> None:
    store, model = Store(), dict[str, bytes]()
    for key, value in changes:
        store = store.having(key, value)
        model.pop(key, None)
        if value is not None:
            model[key] = value
    assert dict(store.items()) == model
    assert len(store) == len(model)
    cost = sum(len(key.encode()) + len(value) for key, value in model.items())
    assert store.size == cost + KEY_OVERHEAD_BYTES * len(model)
    other = Store()
    for key in sorted(model):
        other = other.having(key, model[key])
    assert other == store
    assert list(other.items()) == list(store.items())
    builder = StoreBuilder()
    for key, value in store.items():
        builder.add(key, value)
    assert builder.store() == store
