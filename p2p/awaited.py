"""For whom a job waits before it falls back behind its last mark: pure.

A link that breaks for a moment, or a peer that is stopped for some seconds, counts as dead (p2p.
controller). When trainers elsewhere have the job's state, they go on at once. When nobody else has
it, what the lost trainers know is worth a short wait: fresh ones would begin at a checkpoint.
"""

from collections.abc import Mapping, Set

from p2p.reports import Observed
from p2p.state import Job, Member

AWAITED_S = 10.0


def awaited(
    job: Job, members: Mapping[str, Member], usable: Set[str], observed: Observed
) -> frozenset[str]:
    """Peers out of reach whose trainers alone are as far as the last mark, and may come back."""
    newest, mark = job.generation, job.mark
    if newest is None or mark is None:
        return frozenset()
    seats = {seat.peer: seat.child for seat in newest.seats}
    for peer in usable & observed.reports.keys():
        trainer = observed.reports[peer].trainers.get(job.id)
        if trainer is None or not trainer.is_ready:
            continue
        if seats.get(peer) == trainer.child or int(trainer.ready.get("step", 0)) >= mark.step:
            return frozenset()
    return frozenset(
        peer
        for peer in seats
        if peer not in usable
        and peer in members
        and members[peer].state != "left"
        and peer not in job.excluded
        and observed.now_s - observed.heard_s.get(peer, float("-inf")) < AWAITED_S
    )
