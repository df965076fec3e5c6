"""Commands about what peers noticed: alerts that were seen by somebody, and events nobody decided.

Alerts themselves are not agreed: every peer judges by itself. That one was acknowledged is, so that
it survives whoever was asked; and the leader puts what fired into the events.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from p2p.errors import Usage
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.state import ACKNOWLEDGED_MAX, SEVERITIES, TEXT_MAX, State

Command = Mapping[str, Any]
Result = tuple[State, Mapping[str, Any]]

TOLD_KINDS = frozenset({"alert", "fault"})


def acknowledge_command(state: State, args: Mapping[str, Any]) -> dict[str, Any]:
    """The request `alert.acknowledge`. Raises Usage."""
    alert = args.get("alert")
    if not (isinstance(alert, str) and 0 < len(alert) <= TEXT_MAX):
        raise Usage("which alert? `p2pnode alerts` shows their ids")
    return {"type": "alert.acknowledge", "alert": alert}


def event_command(state: State, args: Mapping[str, Any]) -> dict[str, Any]:
    """The request `event.tell`, of a peer to the leader. Raises Usage."""
    names = ("kind", "severity", "text", "peer", "job")
    command = {"type": "event.told", **{name: args.get(name) for name in names}}
    try:
        told(state, command)
    except Rejected as rejected:
        raise Usage(str(rejected)) from rejected
    return command


def acknowledge(state: State, command: Command) -> Result:
    """Somebody has seen it: it is still shown, and not told of again."""
    alert = _text(command["alert"])
    if alert in state.acknowledged:
        return state, {"alert": alert}
    seen = {**state.acknowledged, alert: float(command["at_s"])}
    kept = dict(list(seen.items())[-ACKNOWLEDGED_MAX:])
    state = replace(state, acknowledged=kept)
    return with_event(state, command, "alert", f"acknowledged: {alert}"), {"alert": alert}


def forget(state: State, command: Command) -> Result:
    """These are resolved: when they fire again, nobody has seen that."""
    gone = {_text(alert) for alert in command["alerts"]}
    kept = {alert: at_s for alert, at_s in state.acknowledged.items() if alert not in gone}
    return replace(state, acknowledged=kept), {}


def told(state: State, command: Command) -> Result:
    """What a peer noticed or did: an alert that began or ended, a drill."""
    kind, severity = command["kind"], command["severity"]
    if kind not in TOLD_KINDS or severity not in SEVERITIES:
        raise Rejected(f"there is no event {kind!r} of severity {severity!r}")
    peer, job = (
        None if command[name] is None else _text(command[name]) for name in ("peer", "job")
    )
    text = _text(command["text"])
    return with_event(state, command, kind, text, severity=severity, peer=peer, job=job), {}


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 2 * TEXT_MAX:
        raise Rejected(f"no text: {str(value)[:50]!r}")
    return value


ALERT_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "alert.acknowledge": acknowledge,
    "alert.forget": forget,
    "event.told": told,
}
