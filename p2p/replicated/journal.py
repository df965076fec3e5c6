"""Why the replicated state refuses a command, and how it records what happened."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2p.replicated.state import EVENTS_MAX, Event, Severity, State


class Rejected(Exception):
    """The command does not fit the state; the sentence goes back to whoever asked."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def with_event(
    state: State,
    command: Mapping[str, Any],
    kind: str,
    text: str,
    *,
    severity: Severity = "info",
    peer: str | None = None,
    job: str | None = None,
) -> State:
    """The state with one more event, numbered after the last, the oldest forgotten."""
    index = state.events[-1].index + 1 if state.events else 1
    event = Event(index, float(command.get("at_s", 0.0)), kind, severity, text, peer, job)
    return replace(state, events=(*state.events, event)[-EVENTS_MAX:])
