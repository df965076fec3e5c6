"""Who votes: a pure planner that returns at most one configuration change, and why.

Voters are the largest odd number ≤ min(peers, 5), where peers are those alive and the dead voters:
a dead voter is replaced only when a live learner can take its seat, so a partition never shrinks
the electorate; a peer that left cleanly or was removed gives its seat up, unless the voters that
run would be no majority without it. Additions come before removals, and one change is made at a
time (Raft dissertation §4.1, with the fix of 2015: the leader first commits in its own term; the
core refuses otherwise).
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from p2p.state import Member

VOTERS_MAX = 5
CAUGHT_UP_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class Electorate:
    """What the leader knows of the Raft configuration.

    `behind` counts the entries a peer has not acknowledged yet; who is silent is not in it.
    """

    self_id: str
    voters: Set[str]
    learners: Set[str]
    behind: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    action: Literal["add-voter", "add-learner", "remove", "transfer"]
    peer: str
    reason: str


def voters_wanted(present: int) -> int:
    """The largest odd number ≤ min(present, VOTERS_MAX), at least 1."""
    count = max(1, min(present, VOTERS_MAX))
    return count if count % 2 else count - 1


def plan(members: Mapping[str, Member], known: Electorate) -> Change | None:
    """The next change towards the wanted electorate, or None when it is reached."""
    for rule in (_admit, _promote, _hand_over, _demote, _forget):
        change = rule(members, known)
        if change is not None:
            return change
    return None


def _wanted(members: Mapping[str, Member], known: Electorate) -> list[str]:
    """Who should vote: seats stay where they are, dead voters keep theirs until replaced."""
    present = [
        member
        for member in members.values()
        if _alive(members, member.id, known)
        or (member.state == "dead" and member.id in known.voters)
    ]
    seats = voters_wanted(len(present))

    def preference(member: Member) -> tuple[bool, bool, bool, bool, str]:
        return (
            not _alive(members, member.id, known),
            member.id != known.self_id,
            member.id not in known.voters,
            known.behind.get(member.id, CAUGHT_UP_ENTRIES) >= CAUGHT_UP_ENTRIES,
            member.id,
        )

    return [member.id for member in sorted(present, key=preference)[:seats]]


def _admit(members: Mapping[str, Member], known: Electorate) -> Change | None:
    for member in members.values():
        if member.id not in known.voters | known.learners and member.state == "alive":
            return Change("add-learner", member.id, f"{member.name} joined and follows the log")
    return None


def _promote(members: Mapping[str, Member], known: Electorate) -> Change | None:
    for peer in _wanted(members, known):
        caught_up = known.behind.get(peer, CAUGHT_UP_ENTRIES) < CAUGHT_UP_ENTRIES
        if peer not in known.voters and members[peer].state == "alive" and caught_up:
            return Change("add-voter", peer, f"{members[peer].name} takes a vote")
    return None


def _hand_over(members: Mapping[str, Member], known: Electorate) -> Change | None:
    if _alive(members, known.self_id, known):
        return None
    heirs = [
        peer
        for peer in sorted(known.voters)
        if peer in members and members[peer].state == "alive" and known.behind.get(peer, 1) == 0
    ]
    if heirs:
        return Change("transfer", heirs[0], "the leader leaves and hands over")
    return None


def _demote(members: Mapping[str, Member], known: Electorate) -> Change | None:
    wanted = _wanted(members, known)
    surplus = [peer for peer in sorted(known.voters) if peer not in wanted]
    if not surplus or not set(wanted) <= known.voters:
        return None  # nobody gives up a vote before its successor has one
    # The dead first, then those that leave, then the living.
    for peer in sorted(
        surplus,
        key=lambda peer: (_runs(members, peer, known), _alive(members, peer, known), peer),
    ):
        rest = known.voters - {peer}
        runs = [other for other in rest if _runs(members, other, known)]
        if peer != known.self_id and 2 * len(runs) > len(rest):
            name = members[peer].name if peer in members else peer
            return Change("add-learner", peer, f"{name} gives up its vote")
    return None


def _forget(members: Mapping[str, Member], known: Electorate) -> Change | None:
    for peer in sorted(known.learners):
        if peer not in members:
            return Change("remove", peer, f"{peer} was removed")
    return None


def _alive(members: Mapping[str, Member], peer: str, known: Electorate) -> bool:
    """Whether it is here to stay; the leader is, whatever an earlier leader thought of it."""
    member = members.get(peer)
    if member is None or member.state == "left":
        return False
    return member.state == "alive" or peer == known.self_id


def _runs(members: Mapping[str, Member], peer: str, known: Electorate) -> bool:
    """Whether it still votes: one that leaves or was removed does so until it is released."""
    dead = peer in members and members[peer].state == "dead"
    return peer == known.self_id or (peer in known.behind and not dead)
