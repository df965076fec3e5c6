"""What can go wrong, as one sentence a user can act on, each with its exit code.

P2PError            1  failed
├── Usage           2  the command or its arguments are wrong
├── Unreachable     3  no peer answered
├── Refused         4  key, token, or not allowed
├── NoQuorum        5  the cluster cannot agree now
├── Unhealthy       6  a check found the cluster unhealthy
├── Busy            1  too much waits for agreement already
└── OutcomeUnknown  ?  asked, but not answered; exits as what kept the answer away
    └── SessionExpired  1

All but OutcomeUnknown promise that what was asked for was not done.
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


class Busy(P2PError):
    """Too much waits already; the same request may be taken a moment later."""

    retry_s = 1.0


class OutcomeUnknown(P2PError):
    """Something was asked for and no answer came: it may have been done, or be done yet."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class SessionExpired(OutcomeUnknown):
    """The cluster does not remember any more what it did for this client."""


_BY_CODE: dict[int, type[P2PError]] = {
    kind.exit_code: kind for kind in (P2PError, Usage, Unreachable, Refused, NoQuorum, Unhealthy)
}
_BY_NAME: dict[str, type[P2PError]] = {
    kind.__name__: kind for kind in (Busy, OutcomeUnknown, SessionExpired)
}


def to_wire(error: P2PError) -> dict[str, Any]:
    body = {"error": str(error), "exit_code": error.exit_code}
    name = type(error).__name__
    return {**body, "kind": name} if name in _BY_NAME else body


def from_wire(body: dict[str, Any]) -> P2PError:
    """The error another process reported; an unknown kind or code reads as a plain failure."""
    code = body.get("exit_code", 1)
    code = code if isinstance(code, int) else 1
    error = _BY_NAME.get(str(body.get("kind")), _BY_CODE.get(code, P2PError))(
        str(body.get("error", "failed"))
    )
    if isinstance(error, OutcomeUnknown):
        error.exit_code = code
    return error
