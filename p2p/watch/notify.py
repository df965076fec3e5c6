"""Lets somebody know of an alert: a command of theirs, or a webhook. Never waits in the peer.

The command gets the alert as JSON on stdin, and as variables P2P_ALERT_…; a webhook gets it as the
body of a POST. Either has TIME_LIMIT_S; what waits is bounded, the oldest is let go.
"""

from collections.abc import Mapping
from typing import Any, Protocol


class Notify(Protocol):
    def tell(self, alert: Mapping[str, Any]) -> None:
        """Returns at once."""


class MemoryNotify:
    """The twin: keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []

    def tell(self, alert: Mapping[str, Any]) -> None:
        self.told = [*self.told, alert][-100:]
