"""What can go wrong, as one sentence a user can act on, each with its exit code.

P2PError            1  failed
├── Usage           2  the command or its arguments are wrong
├── Unreachable     3  no peer answered
├── Refused         4  key, token, or not allowed
├── NoQuorum        5  the cluster cannot agree now
└── Unhealthy       6  a check found the cluster unhealthy
"""

from typing import Any


class P2PError(Exception):
    """Something failed; the message is one sentence that names the thing and the remedy."""

    exit_code = 1


class Usage(P2PError):
    exit_code = 2


class Unreachable(P2PError):
    exit_code = 3


class Refused(P2PError):
    exit_code = 4


class NoQuorum(P2PError):
    exit_code = 5


class Unhealthy(P2PError):
    exit_code = 6


_BY_CODE = {
    kind.exit_code: kind for kind in (P2PError, Usage, Unreachable, Refused, NoQuorum, Unhealthy)
}


def to_wire(error: P2PError) -> dict[str, Any]:
    return {"error": str(error), "exit_code": error.exit_code}


def from_wire(body: dict[str, Any]) -> P2PError:
    """The error another process reported; an unknown code reads as a plain failure."""
    return _BY_CODE.get(body.get("exit_code", 1), P2PError)(str(body.get("error", "failed")))
