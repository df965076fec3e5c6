"""What a key would do, said before it is done: request, consequence, and the same as a command.

Pure: from a snapshot and a selection to a Proposal or a Refusal. It is computed again when the
user says yes, so an answer given to yesterday's screen does nothing.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tui.health import is_voter, majority, voters
from tui.snapshot import Job, Peer, Snapshot, Status, shown_job


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


Plan = Callable[[Snapshot, Status, Selection], Proposal | Refusal]


def propose(
    action: str, snapshot: Snapshot, selection: Selection, read_only: bool = False
) -> Proposal | Refusal:
    """The proposal for `action` (a key of PLANS), or why not."""
    status = snapshot.status
    if read_only:
        return Refusal("this screen is read-only: start p2ptui without --read-only to steer")
    if status is None or snapshot.link.state != "live":
        return Refusal("not connected: nothing can be asked of the cluster now")
    return PLANS[action](snapshot, status, selection)


def _add(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    if not status.cluster.quorum:
        return _no_quorum("a peer cannot join")
    return Proposal(
        title="Add a peer",
        verb="add",
        args={"count": 1},
        cli="p2pnode add 1",
        done="a new peer is starting",
        ask=False,
    )


def _remove(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.state == "left":
        return Refusal(f"{peer.name} has left already")
    if not status.cluster.quorum:
        return _no_quorum(f"{peer.name} cannot be removed")
    alive, total = voters(status)
    if len([other for other in status.peers if other.state != "left"]) == 1:
        return Refusal(f"{peer.name} is the only peer: stop its process instead")
    danger: tuple[str, ...] = ()
    if is_voter(peer.role):
        danger = _quorum_danger(alive - (peer.state == "alive"), total - 1)
    gentle = "It hands its work over, leaves the ring and ends."
    gone = "It is not alive: the others forget it; it cannot come back with its old data."
    return Proposal(
        title=f"Remove {peer.name}?",
        verb="remove",
        args={"peer": peer.id},
        cli=f"p2pnode remove {_handle(status, peer)}",
        done=f"{peer.name} is leaving",
        lines=(
            gentle if peer.state == "alive" else gone,
            *_about(snapshot, status, peer, bool(danger)),
        ),
        danger=danger,
    )


def _kill(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.state in ("dead", "left"):
        return Refusal(f"{peer.name} is not running")
    alive, total = voters(status)
    danger: tuple[str, ...] = ()
    if is_voter(peer.role):
        danger = _quorum_danger(alive - (peer.state == "alive"), total)
    return Proposal(
        title=f"Kill {peer.name}?",
        verb="fault",
        args={"kind": "kill", "peer": peer.id},
        cli=f"p2pnode fault kill {_handle(status, peer)}",
        done=f"{peer.name} was killed",
        lines=(
            f"Its process (pid {peer.pid} on {peer.host or 'its host'}) ends as by kill -9.",
            *_about(snapshot, status, peer, bool(danger)),
        ),
        danger=danger,
    )


def _transfer(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.role == "leader":
        return Refusal(f"{peer.name} leads already: select another peer")
    if not is_voter(peer.role):
        return Refusal(f"{peer.name} is a learner: only a voter can lead")
    if peer.state != "alive":
        return Refusal(f"{peer.name} is {peer.state}: only a living peer can lead")
    if not status.cluster.quorum:
        return _no_quorum("leadership cannot move")
    leader = status.name_of(status.cluster.leader)
    return Proposal(
        title=f"Make {peer.name} the leader?",
        verb="transfer",
        args={"peer": peer.id},
        cli=f"p2pnode transfer {_handle(status, peer)}",
        done=f"leadership goes from {leader} to {peer.name}",
        lines=(f"{leader} hands over once {peer.name} has the whole log.", "Jobs go on."),
    )


def _pause(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    job = shown_job(status, selection.job)
    if job is None:
        return Refusal("there is no job: submit one with S")
    if job.is_final:
        return Refusal(f"{job.name} is {job.state}")
    if not status.cluster.quorum:
        return _no_quorum(f"{job.name} cannot be paused or resumed")
    verb, done = ("resume", "goes on") if job.state == "paused" else ("pause", "is pausing")
    return Proposal(
        title=f"{verb.capitalize()} {job.name}",
        verb=verb,
        args={"job": job.id},
        cli=f"p2pnode {verb} {shlex.quote(job.id)}",
        done=f"{job.name} {done}",
        ask=False,
    )


def _cancel(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    job = shown_job(status, selection.job)
    if job is None:
        return Refusal("there is no job: submit one with S")
    if job.is_final:
        return Refusal(f"{job.name} is {job.state} already")
    if not status.cluster.quorum:
        return _no_quorum(f"{job.name} cannot be cancelled")
    return Proposal(
        title=f"Cancel {job.name}?",
        verb="cancel",
        args={"job": job.id},
        cli=f"p2pnode cancel {shlex.quote(job.id)}",
        done=f"{job.name} is being cancelled",
        lines=(f"It ends at {_progress(job)} and cannot be resumed.", "Its checkpoints stay."),
    )


PLANS: Mapping[str, Plan] = {
    "add": _add,
    "remove": _remove,
    "kill": _kill,
    "transfer": _transfer,
    "pause": _pause,
    "cancel": _cancel,
}


def submission(line: str, address: str) -> Proposal:
    """The request for what follows `p2pnode submit` on a command line, read by the same parser.

    Raises Usage: a flag, a task file or a data folder that cannot be.
    """
    from p2p.errors import Usage  # argparse and the task list are only needed here
    from p2p.verbs.submit import check_task, job_request

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Usage(f"the line cannot be read: {error}") from error
    args = _submit_parser().parse_args(words)
    request = job_request(args)
    if address.startswith(("127.", "localhost")):
        check_task(args.task, request.get("data"))
    return Proposal(
        title="Submit a job",
        verb="submit",
        args=request,
        cli=f"p2pnode submit {shlex.join(words)}",
        done=f"{args.name or args.task} was submitted",
        ask=False,
    )


def _submit_parser() -> argparse.ArgumentParser:
    from p2p.errors import Usage
    from p2p.verbs.submit import VERBS

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise Usage(message)

        def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
            raise Usage(message or "give a task and its options")

    parser = Parser(prog="submit", add_help=False)
    VERBS[0].add_arguments(parser)
    return parser


def _handle(status: Status, peer: Peer) -> str:
    """What the command line calls the peer: its name where only one has it, else its id."""
    same = [other for other in status.peers if other.name == peer.name]
    return shlex.quote(peer.name if len(same) == 1 else peer.id)


def _no_quorum(consequence: str) -> Refusal:
    return Refusal(f"the cluster has no quorum, so {consequence}: bring a voter back first")


def _quorum_danger(alive: int, total: int) -> tuple[str, ...]:
    if total == 0 or alive >= majority(total):
        return ()
    return (
        f"QUORUM WOULD BE LOST: {alive} of {total} voters left, {majority(total)} needed. "
        "Nothing is decided and jobs wait until voters come back.",
    )


def _about(snapshot: Snapshot, status: Status, peer: Peer, stuck: bool) -> tuple[str, ...]:
    """What else hangs on this peer; `stuck`: without it the cluster can decide nothing."""
    lines = []
    if peer.role == "leader":
        after = "and nobody can take its place" if stuck else "the others elect a new one"
        lines.append(f"It is the leader: {after}.")
    lines += [
        _about_job(status, job, peer, stuck)
        for job in status.jobs
        if not job.is_final and peer.id in job.members
    ]
    if peer.address == snapshot.link.address:
        lines.append("This screen is attached to it and moves to another peer.")
    return tuple(lines)


def _about_job(status: Status, job: Job, peer: Peer, stuck: bool) -> str:
    alive = {other.id for other in status.peers if other.state == "alive"}
    left = len(alive & set(job.members) - {peer.id})
    if stuck:
        return f"{job.name} stops after step {job.step:,} until there is a quorum again."
    if not left:
        return f"{job.name} loses its only trainer and waits for another."
    others = "one trainer goes on" if left == 1 else f"{left} trainers go on"
    return f"{job.name}: {others} from step {job.step:,}; no sample is lost or repeated."


def _progress(job: Job) -> str:
    return f"step {job.step:,}" + (f" of {job.steps_total:,}" if job.steps_total else "")
