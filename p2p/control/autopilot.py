"""Who votes: a pure planner that returns at most one configuration change, and why.

Voters are the largest odd number ≤ min(peers, 5), where peers are those alive and the dead voters:
a dead voter is replaced only when a live learner can take its seat, so a partition never shrinks
the electorate; a peer that left cleanly or was removed gives its seat up.

A change goes from one odd electorate to the next in one joint step (Raft dissertation §4.3): from
one voter to three at once, a dead voter out as a caught-up learner comes in. So there are never two
voters, and nobody gives up a vote before its successor has one. The only even electorate is the one
in which a leader that leaves has no other voter to hand over to. One change is made at a time.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from consensus.changes import ConfChangeType, Step
from p2p.replicated.state import Member

VOTERS_MAX = 5
CAUGHT_UP_ENTRIES = 100
# A learner gets a vote when it was active and caught up for so long.
STEADY_S = 0.5
# Members taken in or forgotten by one change.
LEARNERS_AT_ONCE_MAX = 16


@dataclass(frozen=True, slots=True)
class Electorate:
    """What the leader knows of the Raft configuration.

    `behind` counts the committed entries a peer has not acknowledged yet; who is silent is not in
    it. `steady_s`: for how long a peer has been active and less than CAUGHT_UP_ENTRIES behind.
    """

    self_id: str
    voters: Set[str]
    learners: Set[str]
    behind: Mapping[str, int]
    steady_s: Mapping[str, float]
    is_joint: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Steps that come into force together. `votes`: whether somebody gets a vote or loses one."""

    steps: tuple[Step, ...]
    reason: str
    votes: bool = True


@dataclass(frozen=True, slots=True)
class HandOver:
    """Leadership goes to `peer`."""

    peer: str
    reason: str


def voters_wanted(present: int) -> int:
    """The largest odd number ≤ min(present, VOTERS_MAX), at least 1."""
    count = max(1, min(present, VOTERS_MAX))
    return count if count % 2 else count - 1


def plan(members: Mapping[str, Member], known: Electorate) -> Change | HandOver | None:
    """The next change towards the wanted electorate, or None when it is reached."""
    if known.is_joint:
        return None  # one change at a time
    return (
        _admit(members, known)
        or _hand_over(members, known)
        or _elect(members, known)
        or _forget(members, known)
    )


def _admit(members: Mapping[str, Member], known: Electorate) -> Change | None:
    configured = known.voters | known.learners
    new = [
        peer
        for peer, member in sorted(members.items())
        if peer not in configured and member.state == "alive"
    ]
    return _of_learners(ConfChangeType.ADD_LEARNER, new, "follow the log from now on")


def _forget(members: Mapping[str, Member], known: Electorate) -> Change | None:
    gone = [peer for peer in sorted(known.learners) if peer not in members]
    return _of_learners(ConfChangeType.REMOVE, gone, "were removed")


def _of_learners(type: ConfChangeType, peers: list[str], why: str) -> Change | None:
    steps = tuple(Step(type, peer) for peer in peers[:LEARNERS_AT_ONCE_MAX])
    return Change(steps, f"{', '.join(peers)} {why}", votes=False) if steps else None


def _hand_over(members: Mapping[str, Member], known: Electorate) -> Change | HandOver | None:
    """A leader that leaves leads until another can; if none has a vote, one gets it first."""
    if _stays(members, known.self_id, known):
        return None
    heirs = [
        peer
        for peer in sorted(known.voters, key=lambda peer: (known.behind.get(peer, 0), peer))
        if _stays(members, peer, known)
        and known.behind.get(peer, CAUGHT_UP_ENTRIES) < CAUGHT_UP_ENTRIES
    ]
    leaving = _name(members, known.self_id)
    if heirs:
        return HandOver(heirs[0], f"{leaving} leaves and hands over to {members[heirs[0]].name}")
    for peer in _eligible(members, known):
        if peer not in known.voters:
            reason = f"{members[peer].name} gets a vote, so that {leaving} can hand over and leave"
            return Change((Step(ConfChangeType.ADD_VOTER, peer),), reason)
    return None


def _elect(members: Mapping[str, Member], known: Electorate) -> Change | None:
    """From the voters in force to those wanted, in one step, if that is safe."""
    if not _stays(members, known.self_id, known):
        return None
    eligible = _eligible(members, known)
    wanted = eligible[: voters_wanted(len(eligible))]
    come = [peer for peer in wanted if peer not in known.voters]
    go = [peer for peer in sorted(known.voters) if peer not in wanted]
    if not (come or go):
        return None
    if len(wanted) < len(known.voters) and _coming(members, known):
        return None  # nobody gives up a vote whom a learner can replace in a moment
    runs = [peer for peer in wanted if _runs(members, peer, known)]
    failed = [peer for peer in known.voters if not _runs(members, peer, known)]
    if 2 * len(runs) <= len(wanted) or 2 * len(failed) >= len(known.voters):
        return None  # it would not have the majority, or this may be the wrong side of a partition
    steps = [Step(ConfChangeType.ADD_VOTER, peer) for peer in come]
    steps += [Step(ConfChangeType.ADD_LEARNER, peer) for peer in go]
    return Change(tuple(steps), _why(members, come, go, len(wanted)))


def _eligible(members: Mapping[str, Member], known: Electorate) -> list[str]:
    """Who may vote, the best first. Seats stay where they are: the living, then learners that
    are ready, then dead voters, which keep theirs until another can take it.
    """

    def preference(peer: str) -> tuple[bool, bool, bool, str]:
        alive = _stays(members, peer, known)
        return (not alive, peer != known.self_id, peer not in known.voters, peer)

    voters = {
        peer
        for peer in known.voters
        if _stays(members, peer, known) or (peer in members and members[peer].state == "dead")
    }
    ready = {
        peer
        for peer in known.learners
        if _stays(members, peer, known) and known.steady_s.get(peer, 0.0) >= STEADY_S
    }
    return sorted(voters | ready, key=preference)


def _coming(members: Mapping[str, Member], known: Electorate) -> bool:
    """Whether a learner is active that is not ready yet, but will be."""
    return any(
        peer in known.behind
        and _stays(members, peer, known)
        and known.steady_s.get(peer, 0.0) < STEADY_S
        for peer in known.learners
    )


def _why(members: Mapping[str, Member], come: list[str], go: list[str], count: int) -> str:
    """One sentence: who gets a vote, who loses it for which reason, how many there are then."""
    votes = f"{count} vote now" if count > 1 else "one votes now"
    parts = []
    if come:
        names = " and ".join(members[peer].name for peer in come)
        parts.append(f"{names} {'get' if len(come) > 1 else 'gets'} a vote")
    for peer in go:
        state = members[peer].state if peer in members else "removed"
        why = {"dead": "is dead", "left": "left", "removed": "was removed"}
        said = why.get(state, "is one too many for an odd number")
        parts.append(f"{_name(members, peer)} {said} and gives its vote up")
    return f"{'; '.join(parts)}; {votes}"


def _name(members: Mapping[str, Member], peer: str) -> str:
    return members[peer].name if peer in members else peer


def _stays(members: Mapping[str, Member], peer: str, known: Electorate) -> bool:
    """Whether it is here to stay; the leader is, whatever an earlier leader thought of it."""
    member = members.get(peer)
    if member is None or member.state == "left":
        return False
    return member.state == "alive" or peer == known.self_id


def _runs(members: Mapping[str, Member], peer: str, known: Electorate) -> bool:
    """Whether it still votes: one that leaves or was removed does so until it is released."""
    dead = peer in members and members[peer].state == "dead"
    return peer == known.self_id or (peer in known.behind and not dead)
