"""Client sessions: a command that is sent again is applied once, or refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.replicated.apply import apply
from p2p.replicated.apply_sessions import SESSIONS_MAX, UNSEEN_MAX, Ticket
from p2p.replicated.state import State
from tests.peer_fakes import described, founded, spec

SUBMIT = {"type": "job.submit", "name": "run", "spec": spec()}


def opened(state: State, request: str = "r") -> tuple[State, str]:
    state, answer = apply(state, {"type": "session.open", "request": request, "at_s": 1.0})
    return state, str(answer["session"])


def put(session: str, serial: int, value: bytes = b"v", *, seen: int = 0) -> dict[str, Any]:
    command = {"type": "store.put", "key": "k", "value": value, "at_s": 1.0}
    return {**command, "session": Ticket(session, serial, seen).to_wire()}


def test_a_repeated_command_is_applied_once_and_answered_alike() -> None:
    state, session = opened(founded("a"))
    submit = {**SUBMIT, "at_s": 1.0, "session": [session, 0, 0]}
    state, first = apply(state, submit)
    again, second = apply(state, submit)
    assert again is state
    assert first == second == {"job": "job-1"}


def test_a_refusal_is_remembered_too() -> None:
    state, session = opened(founded("a"))
    command = {"type": "member.remove", "peer": "z", "at_s": 1.0, "session": [session, 0, 0]}
    state, first = apply(state, command)
    assert "there is no peer z" in first["error"]
    state, _ = apply(state, {"type": "member.join", "member": described("z")})
    assert apply(state, command) == (state, first)


def test_it_is_remembered_over_thousands_of_other_commands() -> None:
    state, session = opened(State())
    state, other = opened(state)
    state, first = apply(state, put(session, 0, b"mine"))
    for serial in range(3_000):
        state, _ = apply(state, put(other, serial, b"later", seen=serial))
    assert apply(state, put(session, 0, b"mine")) == (state, first)
    assert state.store.get("k") == b"later"
    assert len(state.sessions[other].answers) == 1


def test_commands_may_come_in_any_order_within_what_is_awaited() -> None:
    state, session = opened(State())
    for serial in (3, 1, 2, 0):
        state, answer = apply(state, put(session, serial, bytes([serial])))
        assert answer == {}
    assert state.store.get("k") == b"\0"
    state, _ = apply(state, put(session, 9, b"new", seen=3))
    assert sorted(state.sessions[session].answers) == [3, 9]
    after, answer = apply(state, put(session, 2, b"late"))  # its client has stopped waiting
    assert after is state
    assert "answered, or given up, before" in answer["error"]


def test_sessions_are_bounded_and_the_longest_unused_expires() -> None:
    state, first = opened(State())
    state, second = opened(state)
    state, _ = apply(state, put(first, 0))
    for number in range(SESSIONS_MAX - 1):
        state, _ = opened(state, f"o{number}")
    assert len(state.sessions) == SESSIONS_MAX
    assert first in state.sessions
    assert second not in state.sessions
    after, answer = apply(state, put(second, 0))
    assert after is state
    assert "expired: whether this request was applied is unknown" in answer["error"]
    assert answer["exit_code"] == 1


def test_no_two_sessions_have_one_name() -> None:
    state, one = opened(State(), "same")
    _, two = opened(state, "same")
    _, elsewhere = opened(State(), "other")
    assert len({one, two, elsewhere}) == 3


def test_a_client_that_never_says_what_it_saw_is_stopped() -> None:
    state, session = opened(State())
    for serial in range(UNSEEN_MAX):
        state, _ = apply(state, put(session, serial))
    after, answer = apply(state, put(session, UNSEEN_MAX))
    assert after is state
    assert "not yet seen" in answer["error"]
    assert apply(state, put(session, UNSEEN_MAX, seen=1))[1] == {}


def test_a_session_that_makes_itself_expire_stays_expired() -> None:
    state, session = opened(State())
    for _ in range(SESSIONS_MAX - 1):
        state, _ = opened(state)
    command = {"type": "session.open", "request": "x", "session": [session, 0, 0]}
    state, _ = apply(state, command)
    assert session not in state.sessions
    assert len(state.sessions) == SESSIONS_MAX


@pytest.mark.parametrize(
    "ticket", [None, 7, [], ["s"], ["s", 1, 2], ["s", "1", 0], [1, 1, 1], ["s", 1, 1, 1], {"s": 1}]
)
def test_malformed_tickets_change_nothing(ticket: Any) -> None:
    state, _ = opened(State())
    after, answer = apply(state, {**SUBMIT, "session": ticket})
    assert after is state
    assert "malformed" in answer["error"]


def test_numbers_of_any_size_do_no_harm() -> None:
    state, session = opened(State())
    for serial, seen in ((2**64 - 1, 2**64 - 1), (2**64 - 1, -(2**63)), (-(2**63), -(2**63))):
        state, answer = apply(state, put(session, serial, seen=seen))
        assert answer == {} or "answered, or given up, before" in answer["error"]


CLIENTS = 3
DELIVERIES = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.integers(0, 6), st.integers(0, 6)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(DELIVERIES)
def test_however_often_and_in_whatever_order_each_is_done_at_most_once(
    deliveries: list[tuple[int, int, int]],
) -> None:
    state = founded("a")
    sessions = []
    for number in range(CLIENTS):
        state, session = opened(state, f"c{number}")
        sessions.append(session)
    answered: dict[tuple[int, int], str] = {}
    for client, serial, back in deliveries:
        ticket = [sessions[client], serial, max(0, serial - back)]
        state, answer = apply(state, {**SUBMIT, "at_s": 1.0, "session": ticket})
        if "job" in answer:
            assert answered.setdefault((client, serial), answer["job"]) == answer["job"]
        else:
            assert "before" in answer["error"]
    assert len(state.jobs) == len(set(answered.values())) == len(answered)
