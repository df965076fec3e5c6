"""What the keys that concern peers would do: add, remove, drills, leadership, alerts."""

from dataclasses import dataclass

from tui.health import gravity, is_voter, voters
from tui.proposal import (
    Choice,
    Menu,
    Proposal,
    Refusal,
    Selection,
    about,
    handle,
    left_over,
    no_quorum,
    quorum_danger,
)
from tui.snapshot import Peer, Snapshot, Status


def add(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    if not status.cluster.quorum:
        return no_quorum("a peer cannot join")
    return Proposal(
        title="Add a peer",
        verb="add",
        args={"count": 1},
        cli="p2pnode add 1",
        done="a new peer is starting",
        ask=False,
    )


def remove(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.state == "left":
        return Refusal(f"{peer.name} has left already")
    if not status.cluster.quorum:
        return no_quorum(f"{peer.name} cannot be removed")
    alive, total = voters(status)
    if len([other for other in status.peers if other.state != "left"]) == 1:
        return Refusal(f"{peer.name} is the only peer: stop its process instead")
    danger, left = after_loss(peer, alive, total, total - 1)
    gentle = "It hands its work over, leaves the ring and ends."
    gone = "It is not alive: the others forget it; it cannot come back with its old data."
    return Proposal(
        title=f"Remove {peer.name}?",
        verb="remove",
        args={"peer": peer.id},
        cli=f"p2pnode remove {handle(status, peer)}",
        done=f"{peer.name} is leaving" if peer.state == "alive" else f"{peer.name} is forgotten",
        lines=(
            gentle if peer.state == "alive" else gone,
            *left,
            *about(snapshot, status, peer, bool(danger)),
        ),
        danger=danger,
    )


def after_loss(
    peer: Peer, alive: int, total: int, total_after: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the loss of the quorum, if it would be one; else how near it comes) without this peer."""
    if not is_voter(peer.role):
        return (), ()
    alive_after = alive - (peer.state == "alive")
    return quorum_danger(alive_after, total_after), left_over(alive_after, total_after)


def kill(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.state in ("dead", "left"):
        return Refusal(f"{peer.name} is not running")
    alive, total = voters(status)
    danger, left = after_loss(peer, alive, total, total)
    return Proposal(
        title=f"Kill {peer.name}?",
        verb="fault",
        args={"kind": "kill", "peer": peer.id},
        cli=f"p2pnode fault kill {handle(status, peer)}",
        done=f"{peer.name} was killed",
        lines=(
            f"Its process (pid {peer.pid} on {peer.host or 'its host'}) ends as by kill -9.",
            *left,
            *about(snapshot, status, peer, bool(danger)),
        ),
        danger=danger,
    )


def transfer(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
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
        return no_quorum("leadership cannot move")
    leader = status.name_of(status.cluster.leader)
    return Proposal(
        title=f"Make {peer.name} the leader?",
        verb="transfer",
        args={"peer": peer.id},
        cli=f"p2pnode transfer {handle(status, peer)}",
        done=f"leadership goes from {leader} to {peer.name}",
        lines=(f"{leader} hands over once {peer.name} has the whole log.", "Jobs go on."),
    )


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault of p2p.wire.drills.FAULT_KINDS besides kill. `lines`: what would follow.

    `cuts_off`: the others do without its vote as long as it lasts.
    """

    kind: str
    note: str
    done: str
    lines: tuple[str, ...]
    cuts_off: bool = False


DRILLS = (
    Drill(
        *("pause", "it stops for 5 s, as by SIGSTOP", "stands still for 5 s"),
        ("It answers nobody for 5 s, then goes on.",),
        cuts_off=True,
    ),
    Drill(
        *("partition", "cut off from all others until healed", "is cut off"),
        ("It hears no other peer about the cluster until it is healed (F, heal).",),
        cuts_off=True,
    ),
    Drill(
        *("delay", "what it says and hears is 0 to 0.4 s late", "is slow to hear"),
        ("Its control messages are late until it is healed: elections may follow.",),
    ),
    Drill(
        *("drop", "30 % of its control messages are lost", "loses messages"),
        ("30 % of its control messages are lost until it is healed.",),
    ),
    Drill("heal", "ends partition, delay and drop", "is healed", ()),
    Drill(
        *("crash-trainer", "its trainers die, it does not", "lost its trainers"),
        ("Its trainers end as by kill -9; the job goes on with a new generation.",),
    ),
    Drill(
        *("corrupt", "one bit of its log on disk flips", "has a damaged log"),
        (
            "Nothing happens now: its next start finds the damage,",
            "sets the log aside and joins under a new id.",
        ),
    ),
)


def fault(snapshot: Snapshot, status: Status, selection: Selection) -> Menu | Refusal:
    peer = status.peer(selection.peer)
    if peer is None:
        return Refusal("no peer is selected: choose one in the peers table")
    if peer.state == "left":
        return Refusal(f"{peer.name} has left")
    choices = [Choice("kill", "it ends as by kill -9", kill(snapshot, status, selection))]
    choices += [
        Choice(drill.kind, drill.note, _drilled(drill, snapshot, status, peer)) for drill in DRILLS
    ]
    return Menu(f"A drill on {peer.name}", tuple(choices))


def _drilled(drill: Drill, snapshot: Snapshot, status: Status, peer: Peer) -> Proposal | Refusal:
    if peer.state == "dead" and drill.kind != "heal":  # it may be cut off
        return Refusal(f"{peer.name} is not running")
    alive, total = voters(status)
    danger, left = after_loss(peer, alive, total, total) if drill.cuts_off else ((), ())
    args = {"kind": drill.kind, "peer": peer.id}
    if drill.kind == "partition":
        args["side"] = [peer.id]  # type: ignore[assignment]
    return Proposal(
        title=f"{drill.kind.capitalize()} {peer.name}?",
        verb="fault",
        args=args,
        cli=f"p2pnode fault {drill.kind} {handle(status, peer)}",
        done=f"{peer.name} {drill.done}",
        ask=drill.kind != "heal",
        lines=(
            *drill.lines,
            *left,
            *(about(snapshot, status, peer, bool(danger)) if drill.cuts_off else ()),
        ),
        danger=danger,
    )


def note(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    found = [one for one in snapshot.told.open_alerts if not one.acknowledged]
    if not found:
        return Refusal("no alert is open that was not noted")
    # Where none was chosen: the one that the overview names and the alerts view has first.
    gravest = min(found, key=lambda one: (gravity(one.severity), -(one.since or 0.0)))
    chosen = selection.alert or gravest.id
    alert = next((one for one in found if one.id == chosen), None)
    if alert is None:
        return Refusal("that alert is noted or resolved: choose an open one in the alerts view (8)")
    if not status.cluster.quorum:
        return no_quorum("an alert cannot be noted")
    return Proposal(
        title="Note this alert",
        verb="alert.acknowledge",
        args={"alert": alert.id},
        cli=f"p2pnode alerts --acknowledge {alert.id}",
        done=f"noted, and no news any more: {alert.text}",
        ask=False,
    )
