"""apply(state, command) -> (state, answer): the one pure function all peers run on the log.

A command is a map with a `type`, the proposer's wall-clock `at_s`, perhaps the `request` whose
answer somebody awaits, and perhaps the `session` that lets it be applied only once. A command that
does not fit the state (a stale generation, an unknown job) changes nothing and is answered with a
sentence; apply never raises on what is in the log.
"""

from collections.abc import Callable, Mapping
from typing import Any

from p2p.replicated.apply_alerts import ALERT_COMMANDS
from p2p.replicated.apply_checkpoints import CHECKPOINT_COMMANDS
from p2p.replicated.apply_data import DATA_COMMANDS
from p2p.replicated.apply_jobs import JOB_COMMANDS
from p2p.replicated.apply_members import MEMBER_COMMANDS
from p2p.replicated.apply_services import SERVICE_COMMANDS
from p2p.replicated.apply_sessions import SESSION_COMMANDS, once
from p2p.replicated.apply_store import STORE_COMMANDS
from p2p.replicated.journal import Rejected
from p2p.replicated.state import State

Command = Mapping[str, Any]
Answer = Mapping[str, Any]
Handler = Callable[[State, Command], tuple[State, Answer]]

COMMANDS: dict[str, Handler] = {
    **MEMBER_COMMANDS,
    **JOB_COMMANDS,
    **CHECKPOINT_COMMANDS,
    **STORE_COMMANDS,
    **DATA_COMMANDS,
    **SERVICE_COMMANDS,
    **ALERT_COMMANDS,
    **SESSION_COMMANDS,
}


def apply(state: State, command: Command) -> tuple[State, Answer]:
    """The state after `command`, and what its requester is told ({"error": …} if refused)."""
    if not isinstance(command, dict):
        return state, {"error": "malformed command: not a map", "exit_code": 1}
    if "session" in command:
        return once(state, command, _carry_out)
    return _carry_out(state, command)


def _carry_out(state: State, command: Command) -> tuple[State, Answer]:
    handler = COMMANDS.get(str(command.get("type")))
    try:
        if handler is None:
            raise Rejected(f"unknown command {command.get('type')!r}")
        return handler(state, command)
    except Rejected as rejected:
        return state, {"error": str(rejected), "exit_code": rejected.exit_code}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Every peer runs the same code on the same bytes, so all reject alike.
        return state, {"error": f"malformed command: {error!r}", "exit_code": 1}
