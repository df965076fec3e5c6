"""What a running job needs next: a generation, a mark, an end. Pure rules, a file for each kind;
first match wins where they exclude each other.
"""

from collections.abc import Iterator, Mapping, Set

from p2p.control.awaited import awaited
from p2p.control.checkpoints import copies, unfetchable, unusable, unwritten
from p2p.control.data import TOLD_WITHIN_S, unlike
from p2p.control.failures import crashes, failure, refused
from p2p.control.generations import form
from p2p.control.marks import end, facts
from p2p.control.seated import Command, Trainers
from p2p.replicated.state import Job, Member
from p2p.reports import Observed, TrainerReport


def plan_job(
    job: Job, members: Mapping[str, Member], usable: Set[str], observed: Observed
) -> Iterator[Command]:
    """`usable` are the members that can train now."""
    trainers = {
        peer: report.trainers[job.id]
        for peer, report in observed.reports.items()
        if peer in usable and peer in job.assigned and job.id in report.trainers
    }
    names = {member.id: member.name for member in members.values()}
    failed = failure(job, members, usable, trainers)
    if failed is not None:
        yield failed
        return
    unfit = refused(job, trainers)
    if unfit is not None:
        yield unfit
        return
    yield from crashes(job, names, trainers)
    waited_s = _waited_s(trainers, observed)
    warming = [p for p in job.assigned if p in usable and not _is_ready(trainers.get(p))]
    odd = unlike(job, names, trainers, not warming or waited_s >= TOLD_WITHIN_S)
    if odd is not None:
        yield from odd
        return
    yield from facts(job, names, trainers)
    yield from copies(job, trainers)
    lost = unusable(job, trainers) or unfetchable(job, trainers)
    lost = lost or unwritten(job, names, trainers)
    if lost is not None:
        yield lost
        return
    ended = end(job, trainers)
    if ended is not None:
        yield ended
        return
    concerned = {*job.members, *job.assigned} & usable
    if job.state != "paused" and concerned <= set(observed.reports):
        # A new leader judges no trainer before its peer has reported, or counts as dead.
        missed = awaited(job, members, usable, observed)
        reached = observed.reached.get(job.id, 0)
        yield from form(job, usable, names, trainers, waited_s, missed, reached)


def _waited_s(trainers: Trainers, observed: Observed) -> float:
    """Since the first of them was ready."""
    since_s = [
        observed.ready_s[trainer.child]
        for trainer in trainers.values()
        if trainer.is_ready and trainer.child in observed.ready_s
    ]
    return observed.now_s - min(since_s, default=observed.now_s)


def _is_ready(trainer: TrainerReport | None) -> bool:
    return trainer is not None and trainer.is_ready
