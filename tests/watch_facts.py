"""Facts for tests of what judges: a settled cluster, and what may be wrong with it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2p.replicated.state import Event, State
from p2p.view import RaftView, Vitals
from p2p.watch.facts import Facts
from tests.peer_fakes import applied, founded, running

UNIX_S = 1_000_000.0


def raft(*voters: str, **fields: Any) -> RaftView:
    """As a leads it."""
    return replace(RaftView("a", 3, "a", True, 9, 9, frozenset(voters), 0.0), **fields)


def facts(state: State | None = None, /, **fields: Any) -> Facts:
    """Three peers that vote and are well, at second 100."""
    told = founded("a", "b", "c") if state is None else state
    usual: dict[str, Any] = {"raft": raft(*told.members), "now_s": 100.0, "unix_s": UNIX_S}
    return Facts(**{**usual, "state": told, **fields})


def dead(state: State, *peers: str) -> State:
    told = {"type": "member.dead", "incarnation": "1", "reason": "its connection broke"}
    return applied(state, *({**told, "peer": peer, "at_s": UNIX_S - 1} for peer in peers))


def latest(**values: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    return values


def with_events(state: State, *events: tuple[str, float, str, str | None, str | None]) -> State:
    """(kind, seconds ago, text, peer, job), the oldest first."""
    made = [
        Event(number, UNIX_S - ago_s, kind, "info", text, peer, job)
        for number, (kind, ago_s, text, peer, job) in enumerate(events, 1)
    ]
    return replace(state, events=tuple(made))


def job_with_marks(
    losses: list[float], speeds: list[float], every_s: float = 0.5, **job: Any
) -> State:
    """A running job on a and b with these marks, the last of them made now."""
    state = running("a", "b")
    made = state.jobs["job-1"]
    marks = []
    for number, (loss, speed) in enumerate(zip(losses, speeds, strict=True), 1):
        at_s = UNIX_S - (len(losses) - number) * every_s
        marks.append(_mark(number, loss, speed, at_s))
    return replace(state, jobs={"job-1": replace(made, marks=tuple(marks), **job)})


def _mark(step: int, loss: float, speed: float, at_s: float) -> Any:
    from p2p.replicated.state import Mark

    return Mark(step, 1, step * 10, loss, {}, speed, "sha256:x", at_s)


def training(**shard_s: float) -> dict[str, Vitals]:
    """Vitals in which each peer's trainer of job-1 takes so long for a shard."""
    return {
        peer: Vitals(trainers={"job-1": {"generation": 1, "step": 5, "pace": [[took_s, 1.0]] * 2}})
        for peer, took_s in shard_s.items()
    }
