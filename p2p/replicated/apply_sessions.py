"""Client sessions: a command that is sent again is applied once (Ongaro's dissertation, §6.3).

A client opens a session, numbers its commands in it, and says with each from which number on it
still waits for answers; the state keeps just those answers. A bounded number of sessions is
remembered: when one more is opened, the one unused for the longest time, counted in commands,
expires, on every peer at the same place of the log. A command of an expired session is refused,
never applied: whether it had been applied before is not known any more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from immutables import Map

from p2p.replicated.state import Session, State

SESSIONS_MAX = 1_024
UNSEEN_MAX = 1_024  # answers kept for one client that never says what it has seen

Command = Mapping[str, Any]
Answer = Mapping[str, Any]
CarryOut = Callable[[State, Command], tuple[State, Answer]]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Which command of which session: its number, and the first whose answer is awaited."""

    session: str
    serial: int
    unseen_from: int

    def to_wire(self) -> list[str | int]:
        return [self.session, self.serial, self.unseen_from]

    @staticmethod
    def parse(fields: object) -> "Ticket":
        """Raises ValueError."""
        if isinstance(fields, list) and len(fields) == 3:
            session, serial, unseen_from = fields
            numbers = type(serial) is int and type(unseen_from) is int and unseen_from <= serial
            if numbers and isinstance(session, str):
                return Ticket(session, serial, unseen_from)
        raise ValueError("a session is written [id, number, first number not yet seen]")


def open_session(state: State, command: Command) -> tuple[State, Answer]:
    """The request's own id is part of the session's: not even a cluster that lost the end of its
    log (recover --force-new-cluster) gives the same one to two clients.
    """
    turn = state.turn + 1
    made = f"{turn}-{str(command.get('request', ''))[:12]}"
    sessions = state.sessions
    if len(sessions) >= SESSIONS_MAX:
        sessions = sessions.delete(min(sessions, key=lambda id_: sessions[id_].used))
    sessions = sessions.set(made, Session(used=turn))
    others = [
        {"address": member.address, "state": member.state} for member in state.members.values()
    ]
    return state.having(sessions=sessions, turn=turn), {"session": made, "peers": others}


def once(state: State, command: Command, carry_out: CarryOut) -> tuple[State, Answer]:
    """Carry out a command that has a ticket, unless its session knows it already."""
    try:
        ticket = Ticket.parse(command["session"])
    except ValueError as error:
        return state, {"error": f"malformed command: {error}", "exit_code": 1}
    known = answered(state, ticket)
    if known is not None:
        return state, known
    session = state.sessions[ticket.session]
    unseen_from, answers = _unseen(session, ticket)
    if len(answers) >= UNSEEN_MAX:
        return state, {
            "error": f"{UNSEEN_MAX} answers of this session are not yet seen: say which are",
            "exit_code": 1,
        }
    state, answer = carry_out(state, command)
    if ticket.session not in state.sessions:  # the command itself made it expire
        return state, answer
    turn = state.turn + 1
    session = Session(turn, unseen_from, answers.set(ticket.serial, answer))
    return state.having(sessions=state.sessions.set(ticket.session, session), turn=turn), answer


def answered(state: State, ticket: Ticket) -> Answer | None:
    """What this command is answered without applying it (again); None if it is new."""
    session = state.sessions.get(ticket.session)
    if session is None:
        return {
            "error": "the session expired: whether this request was applied is unknown",
            "exit_code": 1,
            "kind": "SessionExpired",
        }
    if ticket.serial < session.unseen_from:
        return {"error": "this request was answered, or given up, before", "exit_code": 1}
    return session.answers.get(ticket.serial)


def _unseen(session: Session, ticket: Ticket) -> tuple[int, Map[int, Answer]]:
    """From which number on answers are awaited now, and those there are."""
    first, answers = ticket.unseen_from, session.answers
    if first <= session.unseen_from:
        return session.unseen_from, answers
    few = first - session.unseen_from <= len(answers)
    for serial in range(session.unseen_from, first) if few else list(answers):
        if serial < first and serial in answers:
            answers = answers.delete(serial)
    return first, answers


SESSION_COMMANDS: dict[str, CarryOut] = {"session.open": open_session}
