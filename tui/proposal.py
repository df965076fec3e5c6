"""What a key would do, said before it is done: request, consequence, and the same as a command.

Pure: from a snapshot and a selection to a Proposal or a Refusal. It is computed again when the
user says yes, so an answer given to yesterday's screen does nothing.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tui.health import majority
from tui.snapshot import Job, Peer, Snapshot, Status


@dataclass(frozen=True, slots=True)
class Proposal:
    """One request. `ask` = confirm first; `danger` = part of `lines` is a loss, shown in red."""

    title: str
    verb: str
    args: Mapping[str, Any]
    cli: str
    done: str
    ask: bool = True
    lines: tuple[str, ...] = ()
    danger: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the key does nothing now, as one sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What the cursors point at."""

    peer: str | None = None
    job: str | None = None
    alert: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a menu: `shown` names it, `note` says what it means."""

    shown: str
    note: str
    made: Proposal | Refusal


@dataclass(frozen=True, slots=True)
class Menu:
    """What a key may mean; the user chooses, and is asked again where that is destructive."""

    title: str
    choices: tuple[Choice, ...]


Made = Proposal | Menu | Refusal
Plan = Callable[[Snapshot, Status, Selection], Made]


def handle(status: Status, peer: Peer) -> str:
    """What the command line calls the peer: its name where only one has it, else its id."""
    same = [other for other in status.peers if other.name == peer.name]
    return shlex.quote(peer.name if len(same) == 1 else peer.id)


def no_quorum(consequence: str) -> Refusal:
    return Refusal(f"the cluster has no quorum, so {consequence}: bring a voter back first")


def quorum_danger(alive: int, total: int) -> tuple[str, ...]:
    if total == 0 or alive >= majority(total):
        return ()
    return (
        f"QUORUM WOULD BE LOST: {alive} of {total} voters left, {majority(total)} needed. "
        "Nothing is decided and jobs wait until voters come back.",
    )


def left_over(alive: int, total: int) -> tuple[str, ...]:
    """How near the cluster comes to standing still, where it does not stand still yet."""
    spare = alive - majority(total)
    if total < 2 or spare < 0:
        return ()
    told = f"Leaves {alive} of {total} voters: "
    if spare == 0:
        return (told + "one more failure stops the cluster.",)
    return (told + f"{spare} more may fail before it stops.",)


def about(snapshot: Snapshot, status: Status, peer: Peer, stuck: bool) -> tuple[str, ...]:
    """What else hangs on this peer; `stuck`: without it the cluster can decide nothing."""
    lines = []
    if peer.role == "leader":
        after = "and nobody can take its place" if stuck else "the others elect a new one"
        lines.append(f"It is the leader: {after}.")
    lines += [
        about_job(status, job, peer, stuck)
        for job in status.jobs
        if not job.is_final and peer.id in job.members
    ]
    if peer.address == snapshot.link.address:
        lines.append("This screen is attached to it and moves to another peer.")
    return tuple(lines)


def about_job(status: Status, job: Job, peer: Peer, stuck: bool) -> str:
    alive = {other.id for other in status.peers if other.state == "alive"}
    left = len(alive & set(job.members) - {peer.id})
    if stuck:
        return f"{job.name} stops after step {job.step:,} until there is a quorum again."
    if not left:
        return f"{job.name} loses its only trainer and waits for another."
    others = "one trainer goes on" if left == 1 else f"{left} trainers go on"
    return f"{job.name}: {others} from step {job.step:,}; no sample is lost or repeated."


def progress(job: Job) -> str:
    return f"step {job.step:,}" + (f" of {job.steps_total:,}" if job.steps_total else "")
