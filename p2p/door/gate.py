"""Who may come in: by the bearer token, or without one from this machine only. Pure.

Without a token the door listens on a loopback address. Any page that a user of this machine visits
can send requests there, so `Host` must name a loopback address (or a name of somebody else could
be made to point here) and `Origin`, which browsers add, too.
"""

import hmac
from collections.abc import Mapping

from p2p.door.told import Problem
from p2p.listen_at import is_loopback

OPEN_PATHS = frozenset({"/health"})  # a load balancer has no token


def check(path: str, headers: Mapping[str, str], token: str | None) -> None:
    """`headers` by their names in lower case. Raises Problem."""
    if token is None:
        _from_here("Host", headers.get("host", ""))
        if "origin" in headers:
            _from_here("Origin", headers["origin"].rpartition("://")[2])
        return
    if path in OPEN_PATHS:
        return
    scheme, _, told = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Problem(401, "give the door's token: `Authorization: Bearer TOKEN`", "no_api_key")
    if not hmac.compare_digest(told.strip().encode(), token.encode()):
        raise Problem(401, "that is not the token of this door", "invalid_api_key")


def _from_here(name: str, told: str) -> None:
    host = told.rpartition(":")[0] if told.rpartition(":")[2].isdecimal() else told
    if not is_loopback(host.strip("[]")):
        sentence = f"{name} is {told!r:.100}, no address of this machine: that needs a token"
        raise Problem(403, f"{sentence}, see `p2pnode --help`", "not_from_here")
