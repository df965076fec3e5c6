"""The cluster key and its token."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import Usage
from p2p.wire.keys import ClusterKey, parse_token

KEY = ClusterKey("c0ffee", bytes(range(32)))


def test_a_token_is_the_key() -> None:
    for key in (KEY, ClusterKey.fresh()):
        assert parse_token(key.token) == key
        assert parse_token(f"  {key.token}\n") == key


def test_fresh_keys_differ() -> None:
    one, two = ClusterKey.fresh(), ClusterKey.fresh()
    assert one.secret != two.secret
    assert one.cluster_id != two.cluster_id


def test_key_pairs_follow_from_the_secret_alone() -> None:
    again = ClusterKey("other", KEY.secret)
    assert (again.server, again.client) == (KEY.server, KEY.client)
    keys = {KEY.server.public, KEY.server.secret, KEY.client.public, KEY.client.secret}
    assert len(keys) == 4
    assert all(len(key) == 40 for key in keys)
    assert ClusterKey("c0ffee", bytes(32)).server != KEY.server


def test_the_token_does_not_show_its_server_key() -> None:
    assert KEY.server.public.decode() not in KEY.token
    assert KEY.token.startswith("p2p1.c0ffee.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a token"),
        ("p2p2" + KEY.token[4:], "not a token"),
        (KEY.token + ".x", "not a token"),
        (KEY.token.replace("c0ffee", "c0 fee"), "not a token"),
        (KEY.token[:-1], "damaged"),
        (KEY.token[:-4], "damaged"),
        (KEY.token + "A", "damaged"),
        (KEY.token.rpartition(".")[0] + ".ü", "damaged"),
        (ClusterKey("c0ffee", bytes(32)).token[:30] + KEY.token[30:], "do not belong together"),
    ],
)
def test_a_damaged_token_says_so(text: str, said: str) -> None:
    with pytest.raises(Usage, match=said):
        parse_token(text)


@given(st.text())
def test_any_text_is_a_key_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(Usage):
        parse_token(text)
