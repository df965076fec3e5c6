"""Which peers keep a trainer for which job: pure, by free slots. First come the jobs that lack
their least, then those of a higher priority, then those submitted earlier.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from p2p.replicated.state import Job, Member, State

Command = dict[str, Any]
NOBODY_MISSED: Mapping[str, Set[str]] = {}
NO_DEVICES: Mapping[str, str] = {}


def plan_assignments(
    state: State,
    peers: Mapping[str, Member],
    missed: Mapping[str, Set[str]] = NOBODY_MISSED,
    devices: Mapping[str, str] = NO_DEVICES,
) -> Iterator[Command]:
    """One job.assign (or job.wait) for each job whose set of peers should change. `missed`: by job,
    peers that are not there now but keep their place; `devices`: what each peer's trainers compute
    on, where it has said so."""
    free = free_slots(state, peers)
    active = [job for job in state.jobs.values() if not job.is_final]
    # Who lacks its minimum comes first, or a running job would take each peer that is added.
    order = sorted(active, key=lambda job: (_has_least(job, peers), -priority(job)))
    waiting = [job for job in order if job.state == "queued" and not _has_least(job, peers)]
    made_room = {
        command["job"]: command
        for job in waiting
        for command in _make_room(job, active, peers, free)
    }
    yield from made_room.values()
    for job in order:
        if job.state != "paused" and job.id not in made_room:
            yield from _place(job, peers, free, missed.get(job.id, frozenset()), devices)


def free_slots(state: State, peers: Mapping[str, Member]) -> dict[str, int]:
    """By peer, how many more trainers or replicas it may have."""
    taken = Counter(
        peer
        for jobs in (state.jobs.values(), state.services.values())
        for job in jobs
        for peer in job.assigned
    )
    return {peer.id: peer.slots - taken[peer.id] for peer in peers.values()}


def _has_least(job: Job, peers: Mapping[str, Member]) -> bool:
    return len([peer for peer in job.assigned if peer in peers]) >= _bounds(job)[0]


def priority(job: Job) -> int:
    return int(job.spec.get("priority") or 0)


def _make_room(
    job: Job, active: list[Job], peers: Mapping[str, Member], free: Mapping[str, int]
) -> list[Command]:
    """Jobs of a lower priority give up peers beyond their own least: all that is lacking or none,
    or they would take them back."""
    may_have = {peer for peer in peers if peers[peer].slots > 0} - set(job.excluded)
    lacking = _bounds(job)[0] - len([peer for peer in may_have if free[peer] > 0])
    may_have -= {peer for peer in may_have if free[peer] > 0}
    commands = []
    lower = [other for other in active if priority(other) < priority(job)]
    for donor in sorted(lower, key=priority):
        if lacking <= 0:
            break
        has = [peer for peer in donor.assigned if peer in peers]
        spare = max(0, len(has) - _bounds(donor)[0])
        given = [peer for peer in reversed(has) if peer in may_have][: min(spare, lacking)]
        if given and donor.state != "paused":
            may_have -= set(given)
            lacking -= len(given)
            names = " and ".join(sorted(peers[peer].name for peer in given))
            commands.append(
                {
                    "type": "job.assign",
                    "job": donor.id,
                    "peers": [peer for peer in donor.assigned if peer not in given],
                    "reason": f"{names} goes to {job.name}, which has a higher priority",
                }
            )
    return commands if lacking <= 0 else []


def _place(
    job: Job,
    peers: Mapping[str, Member],
    free: dict[str, int],
    missed: Set[str],
    devices: Mapping[str, str],
) -> Iterator[Command]:
    least, most = _bounds(job)
    here = {*peers, *missed} - set(job.excluded)
    kept = [peer for peer in job.assigned if peer in here]
    open_slots = [
        peer
        for peer in sorted(peers, key=lambda peer: (-free[peer], peers[peer].name))
        if free[peer] > 0 and peer not in kept and peer not in job.excluded
    ]
    fitting = of_one_kind(kept, open_slots, devices, least)
    wanted = kept + fitting[: max(0, most - len(kept))]
    if job.state == "queued" and len(wanted) < least:
        reason = waiting_for(job, least, len(wanted))
        if len(fitting) < len(open_slots):
            reason += " (GPUs and CPUs do not mix in a job)"
        if job.reason != reason:
            yield {"type": "job.wait", "job": job.id, "reason": reason}
        return
    if sorted(wanted) != sorted(job.assigned):
        for peer in wanted:
            if peer not in kept:
                free[peer] -= 1
        yield {
            "type": "job.assign",
            "job": job.id,
            "peers": wanted,
            "reason": f"starting on {len(wanted)} of {len(peers)} peers",
        }


def of_one_kind(
    kept: Sequence[str], found: Sequence[str], devices: Mapping[str, str], least: int
) -> list[str]:
    """Those of `found` that compute on what `kept` do: a GPU and a CPU give other bits. For a job
    that has nobody yet those with a GPU, if they are enough, else the more numerous."""
    if "cuda" not in devices.values():
        return list(found)
    kinds = {
        kind: [peer for peer in found if devices.get(peer) == kind] for kind in ("cuda", "cpu")
    }
    if kept:
        return kinds.get(devices.get(kept[0], ""), [])
    return kinds["cuda"] if len(kinds["cuda"]) >= least else max(kinds.values(), key=len)


def waiting_for(job: Job, least: int, have: int) -> str:
    peers = "a peer" if least == 1 else f"{least} peers"
    return f"waits for {peers} with a free slot, {have} now: `p2pnode add {least - have}`"


def least_peers(job: Job) -> int:
    return _bounds(job)[0]


def _bounds(job: Job) -> tuple[int, int]:
    """The least and the most peers; never more than there are shards."""
    shards = int(job.spec["shards"])
    most = job.spec.get("peers_max") or shards
    return int(job.spec.get("peers_min") or 1), min(int(most), shards)
