"""apply(state, command) -> (state, answer): the one pure function all peers run on the log.

A command is a map with a `type`, the proposer's wall-clock `at_s`, and perhaps a `request` id. A
command that does not fit the state (a stale generation, an unknown job) changes nothing and is
answered with a sentence; apply never raises on what is in the log.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from p2p.apply_jobs import JOB_COMMANDS
from p2p.apply_members import MEMBER_COMMANDS
from p2p.journal import Rejected
from p2p.state import ANSWERS_MAX, State

Command = Mapping[str, Any]
Answer = Mapping[str, Any]
Handler = Callable[[State, Command], tuple[State, Answer]]

COMMANDS: dict[str, Handler] = {**MEMBER_COMMANDS, **JOB_COMMANDS}


def apply(state: State, command: Command) -> tuple[State, Answer]:
    """The state after `command`, and what its requester is told ({"error": …} if refused)."""
    if not isinstance(command, dict):
        return state, {"error": "malformed command: not a map", "exit_code": 1}
    request = command.get("request")
    if isinstance(request, str) and request in state.answers:
        return state, state.answers[request]
    handler = COMMANDS.get(str(command.get("type")))
    try:
        if handler is None:
            raise Rejected(f"unknown command {command.get('type')!r}")
        state, answer = handler(state, command)
    except Rejected as rejected:
        answer = {"error": str(rejected), "exit_code": rejected.exit_code}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Every peer runs the same code on the same bytes, so all reject alike.
        answer = {"error": f"malformed command: {error!r}", "exit_code": 1}
    if isinstance(request, str):
        state = replace(state, answers=_bounded({**state.answers, request: answer}))
    return state, answer


def _bounded(answers: dict[str, Answer]) -> dict[str, Answer]:
    while len(answers) > ANSWERS_MAX:
        del answers[next(iter(answers))]
    return answers
