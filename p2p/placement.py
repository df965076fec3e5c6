"""Which peers keep a trainer for which job: pure, in order of submission, by free slots."""

from collections.abc import Iterator, Mapping
from typing import Any

from p2p.state import Job, Member, State

Command = dict[str, Any]


def plan_assignments(state: State, peers: Mapping[str, Member]) -> Iterator[Command]:
    """One job.assign (or job.wait) for each job whose set of peers should change."""
    free = {peer.id: peer.slots for peer in peers.values()}
    active = [job for job in state.jobs.values() if not job.is_final]
    for job in active:
        for peer in job.assigned:
            if peer in free:
                free[peer] -= 1
    # Who lacks its minimum comes first, or a running job would take each peer that is added.
    for job in sorted(active, key=lambda job: _has_least(job, peers)):
        if job.state != "paused":
            yield from _place(job, peers, free)


def _has_least(job: Job, peers: Mapping[str, Member]) -> bool:
    return len([peer for peer in job.assigned if peer in peers]) >= _bounds(job)[0]


def _place(job: Job, peers: Mapping[str, Member], free: dict[str, int]) -> Iterator[Command]:
    least, most = _bounds(job)
    kept = [peer for peer in job.assigned if peer in peers and peer not in job.excluded]
    open_slots = [
        peer
        for peer in sorted(peers, key=lambda peer: (-free[peer], peers[peer].name))
        if free[peer] > 0 and peer not in kept and peer not in job.excluded
    ]
    wanted = kept + open_slots[: max(0, most - len(kept))]
    if job.state == "queued" and len(wanted) < least:
        reason = waiting_for(job, least, len(wanted))
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


def waiting_for(job: Job, least: int, have: int) -> str:
    return f"waits for {least} peers with a free slot, {have} now: `p2pnode add {least - have}`"


def _bounds(job: Job) -> tuple[int, int]:
    """The least and the most peers; never more than there are shards."""
    shards = int(job.spec["shards"])
    most = job.spec.get("peers_max") or shards
    return int(job.spec.get("peers_min") or 1), min(int(most), shards)
