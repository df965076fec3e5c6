"""The control plane's envelope: only well-formed ones of this cluster get in."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.wire.envelope import ENVELOPE_BYTES_MAX, KINDS, Envelope, Malformed, decode, encode

BODY = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    max_size=4,
)


@given(st.sampled_from(sorted(KINDS)), st.text(), st.text(), BODY)
def test_what_is_wrapped_is_unwrapped(
    kind: str, sender: str, incarnation: str, body: dict[str, Any]
) -> None:
    envelope = Envelope("c", sender, incarnation, kind, body)
    assert decode(encode(envelope), "c") == envelope


@given(st.binary())
def test_any_bytes_are_an_envelope_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data, "c")


GOOD = [1, "c", "a", "i", "report", {}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([2, *GOOD[1:]], "protocol version 2, ours is 1"),
        ([None, *GOOD[1:]], "protocol version None"),
        ([1, "d", *GOOD[2:]], "for cluster 'd', ours is 'c'"),
        ([1, "c", 7, *GOOD[3:]], "mis-typed"),
        ([1, "c", "a", None, *GOOD[4:]], "mis-typed"),
        ([1, "c", "a", "i", 5, {}], "mis-typed"),
        ([1, "c", "a", "i", "gossip", {}], "unknown kind 'gossip'"),
        ([1, "c", "a", "i", "report", []], "not a map"),
        ([1, "c", "a", "i", "report", {b"key": 1}], "not a map"),
        (GOOD[:5], "not an envelope"),
        ([*GOOD, 1], "not an envelope"),
        ({}, "not an envelope"),
    ],
)
def test_malformed_envelopes_say_why(fields: Any, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        decode(msgpack.packb(fields), "c")


def test_an_oversized_one_is_not_even_read() -> None:
    body = {"x": bytes(ENVELOPE_BYTES_MAX)}
    with pytest.raises(Malformed, match="is more than"):
        decode(encode(Envelope("c", "a", "i", "raft", body)), "c")


@pytest.mark.parametrize(
    "junk", [b"\xc1", b"\x91" * 2000, b"\xdf\xff\xff\xff\xff", b"\x91\x01\x01"]
)
def test_hostile_msgpack_is_malformed(junk: bytes) -> None:
    with pytest.raises(Malformed):
        decode(junk, "c")
