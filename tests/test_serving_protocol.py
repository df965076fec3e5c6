"""Messages between a peer and its replica: round trips, and what is refused."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.serving.checking import Malformed
from p2p.serving.messages import (
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    Ready,
    Sampling,
    Stream,
    Tokens,
)
from p2p.serving.protocol import news, order

SAMPLING = Sampling(0.7, 40, 0.9, (1 << 64) - 1)
ORDERS = [
    Load("m", job={"id": "job-1", "task": "textgpt"}, source_dir="/s", weights=("/a", "/b")),
    Load("m", "GPU-1", folder="/hf", memory_bytes=1 << 30, streams=3, waiting=0),
    Generate("r", text=""),
    Generate("r", messages=({"role": "user", "content": "hé"},), stop=("\n", "end")),
    Generate("r", tokens=(1, 2, 3), max_tokens=4, sampling=SAMPLING, sent=(9, 9)),
    Cancel("r"),
]
NEWS = [
    Ready("m", 10, 40, 128, "sha256:00", 16),
    Failed("it does not fit"),
    Tokens((Stream("r", (1, 2), "ab"), Stream("s", (3,), "")), 2, 7),
    Done("r", "length", 3, 4, "rest"),
    Done("r", "error", 0, 0, error="busy", retry_s=0.5),
]
REFUSED_ORDERS: dict[str, Any] = {
    "not a map": [],
    "a key that is no name": {1: 2},
    "no kind": {"request": "r"},
    "unknown": {"kind": "explode", "request": "r"},
    "no request": {"kind": "cancel"},
    "empty request": {"kind": "cancel", "request": ""},
    "enormous request": {"kind": "cancel", "request": "r" * 129},
    "no prompt": {"kind": "generate", "request": "r"},
    "two prompts": {"kind": "generate", "request": "r", "text": "a", "tokens": [1]},
    "half a character": {"kind": "generate", "request": "r", "text": "\ud800"},
    "enormous prompt": {"kind": "generate", "request": "r", "text": "a" * (1024 * 1024 + 1)},
    "no messages": {"kind": "generate", "request": "r", "messages": []},
    "unknown role": {
        "kind": "generate",
        "request": "r",
        "messages": [{"role": "x", "content": ""}],
    },
    "token -1": {"kind": "generate", "request": "r", "tokens": [-1]},
    "token true": {"kind": "generate", "request": "r", "tokens": [True]},
    "hot": {"kind": "generate", "request": "r", "text": "a", "temperature": 1e9},
    "nan": {"kind": "generate", "request": "r", "text": "a", "top_p": float("nan")},
    "a word": {"kind": "generate", "request": "r", "text": "a", "temperature": "warm"},
    "none": {"kind": "generate", "request": "r", "text": "a", "max_tokens": 0},
    "empty stop": {"kind": "generate", "request": "r", "text": "a", "stop": [""]},
    "stops": {"kind": "generate", "request": "r", "text": "a", "stop": ["a"] * 17},
    "more sent": {"kind": "generate", "request": "r", "text": "a", "max_tokens": 1, "sent": [1, 2]},
    "weights of nothing": {"kind": "load", "model": {"name": "m", "weights": ["/a"]}},
    "both": {"kind": "load", "model": {"name": "m", "job": {}, "weights": ["/"], "folder": "/"}},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("message", ORDERS, ids=lambda m: type(m).__name__)
def test_orders_come_back_as_they_were(message: Any) -> None:
    assert order(msgpack.unpackb(msgpack.packb(message.to_wire()))) == message


@pytest.mark.parametrize("message", NEWS, ids=lambda m: type(m).__name__)
def test_news_come_back_as_they_were(message: Any) -> None:
    assert news(msgpack.unpackb(msgpack.packb(message.to_wire()))) == message


@pytest.mark.parametrize("name", REFUSED_ORDERS)
def test_what_is_no_order_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        order(REFUSED_ORDERS[name])


@given(st.sampled_from([*ORDERS, *NEWS]), st.data())
def test_a_field_of_anything_is_taken_or_refused(message: Any, data: st.DataObject) -> None:
    wire = message.to_wire()
    wire[data.draw(st.sampled_from(sorted(wire)))] = data.draw(VALUES)
    read = order if message in ORDERS else news
    try:
        again = read(wire)
    except Malformed:
        return
    assert read(again.to_wire()) == again
