"""Commands about the cluster and its members."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from p2p.replicated.apply_services import readmitted
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.state import Member, State, parse_member

Command = Mapping[str, Any]
Result = tuple[State, Mapping[str, Any]]


def found(state: State, command: Command) -> Result:
    if state.cluster_id:
        raise Rejected("the cluster exists already")
    state = replace(state, cluster_id=str(command["cluster_id"]), name=str(command["name"]))
    return join(state, command)


def join(state: State, command: Command) -> Result:
    """A new peer, or one that comes back with another address, process or size.

    `replaces`: ids under which it ran before its log was lost or damaged; nobody else will.
    """
    member = parse_member(command["member"])
    former = [str(peer) for peer in command.get("replaces", ()) if str(peer) != member.id]
    for peer in former:
        state = _forget(state, peer)
    if member.id in state.removed:
        raise Rejected(
            "this peer was removed from the cluster: join with an empty --data-dir", exit_code=4
        )
    if _name_taken(state, member):
        member = replace(member, name=f"{member.name}-{member.id[:4]}")
    known = state.members.get(member.id)
    state = _with_member(state, member)
    if known is not None and known.incarnation != member.incarnation:
        state = readmitted(state, member.id)
    answer = {"member": asdict(member)}
    if known is None and former:
        text = f"{member.name} lost its log: it is back as a new peer that follows and is repaired"
        warned = with_event(
            state, command, "peer-replaced", text, severity="warning", peer=member.id
        )
        return warned, answer
    if known == state.members[member.id]:  # asked again, by the same process at the same place
        return state, answer
    verb = "joined" if known is None else "is back"
    text = f"{member.name} {verb} at {member.address}"
    return with_event(state, command, "peer-joined", text, peer=member.id), answer


def dead(state: State, command: Command) -> Result:
    member = _member(state, command)
    if member.state != "alive" or member.incarnation != command["incarnation"]:
        raise Rejected(f"{member.name} is not the process that was seen to die")
    state = _with_member(state, replace(member, state="dead"))
    text = f"{member.name} is dead: {command['reason']}"
    return with_event(state, command, "peer-dead", text, severity="warning", peer=member.id), {}


def alive(state: State, command: Command) -> Result:
    member = _member(state, command)
    if member.state != "dead":
        raise Rejected(f"{member.name} is {member.state}, not dead")
    state = _with_member(state, replace(member, state="alive"))
    return with_event(
        state, command, "peer-alive", f"{member.name} answers again", peer=member.id
    ), {}


def leave(state: State, command: Command) -> Result:
    """A clean leave: the peer stays known and may come back with its data directory."""
    member = _member(state, command)
    if member.state == "left":
        return state, {}
    state = _with_member(state, replace(member, state="left"))
    return with_event(state, command, "peer-left", f"{member.name} leaves", peer=member.id), {}


def remove(state: State, command: Command) -> Result:
    """Forget a peer for good: its id may never come back (its log may be gone with its disk)."""
    member = _member(state, command)
    state = _forget(state, member.id)
    return with_event(
        state, command, "peer-removed", f"{member.name} was removed", peer=member.id
    ), {"peer": member.id}


def elected(state: State, command: Command) -> Result:
    member = state.members.get(str(command["peer"]))
    name = member.name if member else command["peer"]
    text = f"{name} leads in term {command['term']}"
    return with_event(state, command, "leader", text, peer=str(command["peer"])), {}


def recovered(state: State, command: Command) -> Result:
    """One peer goes on alone after a lost majority; the others' ids may never come back.

    What was kept of the log may not tell of this one yet: then it joins.
    """
    id_ = str(command["peer"])
    for other in sorted(state.members.keys() - {id_}):
        state = _forget(state, other)
    me = state.members.get(id_)
    if me is not None:
        state = _with_member(state, replace(me, state="alive"))
    name = me.name if me else id_
    text = f"{name} goes on alone, by force: {command['entries']} entries of the log were kept"
    return with_event(state, command, "recovered", text, severity="error", peer=id_), {}


def voters_changed(state: State, command: Command) -> Result:
    """The log's own configuration entry says who; this says why, for whoever reads the events."""
    return with_event(state, command, "voters", str(command["reason"])), {}


def _member(state: State, command: Command) -> Member:
    member = state.members.get(str(command["peer"]))
    if member is None:
        raise Rejected(f"there is no peer {command['peer']}")
    return member


def _forget(state: State, peer: str) -> State:
    members = {id_: other for id_, other in state.members.items() if id_ != peer}
    return replace(state, members=members, removed=state.removed | {peer})


def _with_member(state: State, member: Member) -> State:
    return replace(state, members={**state.members, member.id: member})


def _name_taken(state: State, member: Member) -> bool:
    return any(
        other.name == member.name and other.id != member.id for other in state.members.values()
    )


MEMBER_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "cluster.found": found,
    "member.join": join,
    "member.dead": dead,
    "member.alive": alive,
    "member.leave": leave,
    "member.remove": remove,
    "leader.elected": elected,
    "voters.changed": voters_changed,
    "cluster.recovered": recovered,
}
