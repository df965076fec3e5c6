"""For whom a job waits before others go on without any trainer of its last generation: pure.

A link that breaks for a moment, or a peer that is stopped for some seconds, counts as dead (see
p2p.control.controller). As long as one trainer of the newest generation is there, the others of it
cannot step without it, and it has the state: the job goes on at once. When all of them are out of
reach, two things are worth a short wait: that none of them can still be stepping, and, if nobody
else is as far as the last mark, what they know. Fresh trainers would begin at a checkpoint.
"""

from collections.abc import Mapping, Set

from p2p.replicated.state import Job, Member
from p2p.reports import Observed

AWAITED_S = 10.0
# Longer than any lease (p2p.trainer_desk.LEASE_S), also by clocks that differ by a quarter.
FENCED_S = 3.0


def awaited(
    job: Job, members: Mapping[str, Member], usable: Set[str], observed: Observed
) -> frozenset[str]:
    """Peers out of reach with all trainers of the newest generation; they may come back."""
    newest = job.generation
    if newest is None:
        return frozenset()
    seats = {seat.peer: seat.child for seat in newest.seats}
    patience_s = AWAITED_S if job.mark is not None else FENCED_S
    for peer in usable & observed.reports.keys():
        trainer = observed.reports[peer].trainers.get(job.id)
        if trainer is None or not trainer.is_ready:
            continue
        if seats.get(peer) == trainer.child:
            return frozenset()
        if job.mark is not None and int(trainer.ready.get("step", 0)) >= job.mark.step:
            patience_s = FENCED_S
    return frozenset(
        peer
        for peer in seats
        if peer not in usable
        and peer in members
        and members[peer].state != "left"
        and peer not in job.excluded
        and observed.now_s - observed.heard_s.get(peer, float("-inf")) < patience_s
    )
