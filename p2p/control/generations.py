"""When a job's next generation is formed, of whom, and why."""

from collections.abc import Iterator, Set
from typing import Any

from p2p.control.awaited import AWAITED_S
from p2p.control.checkpoints import is_alive, must_wait, way_back
from p2p.control.failures import set_aside
from p2p.control.rebalancing import Paces, better, deal, filled, hopeless, ranges
from p2p.control.seated import Command, Names, Trainers, of, seated_reports
from p2p.replicated.state import TEXT_MAX, Generation, Job
from p2p.training.strategies import catalog

# How long ready trainers wait for the others' to warm up before a job starts without them.
WARM_UP_S = 5.0


def form(
    job: Job,
    usable: Set[str],
    names: Names,
    trainers: Trainers,
    waited_s: float,
    missed: Set[str],
    reached: int,
) -> Iterator[Command]:
    """A new generation when a seat was lost, when a trainer waits for one, or when another method
    was set.

    The first one waits for all assigned peers, but not for ever: who warms up late joins later.
    `waited_s` = since the first trainer was ready. A later one waits for the `missed`, who alone
    are as far as the job (p2p.control.awaited). `reached` = the newest step that was heard of.
    """
    ready: Trainers = {peer: trainer for peer, trainer in trainers.items() if trainer.is_ready}
    newest = job.generation
    least = int(job.spec.get("peers_min") or 1)
    if newest is None:
        warming = [peer for peer in job.assigned if peer in usable and peer not in ready]
        impatient = waited_s >= WARM_UP_S
        if ready and (not warming or impatient) and len(ready) >= least:
            yield from _begin(job, ready, names, waited_s, 0, "the job starts")
        elif not warming and job.state == "starting":
            yield from _waits(job, least, len(ready))
        return
    ready = _without_learners(newest, ready, least)
    if missed:
        alone = " and ".join(sorted(names[peer] for peer in missed))
        yield from _says(job, f"waits up to {AWAITED_S:g} s for {alone}: nobody else was training")
        return
    lost = [
        seat.peer
        for seat in newest.seats
        if seat.peer not in ready or ready[seat.peer].child != seat.child
    ]
    joined = [peer for peer in ready if peer not in job.members or peer in lost]
    reset = newest.method.revision != job.method.revision
    if not (lost or joined or newest.closed or reset):
        yield from split_anew(job, newest, names, trainers)
        return
    if newest.start_step is None and not (lost or newest.closed or reset):
        return  # one change at a time: the newest generation first makes a step
    if len(ready) < least or not ready:
        yield from _waits(job, least, len(ready))
        return
    why = _why(usable, names, lost, joined, job.method.reason if reset else "")
    if is_alive(job, ready):
        yield _generation(job, newest.number + 1, ready, why)
    else:
        yield from _begin(job, ready, names, waited_s, reached, why)


def _without_learners(newest: Generation, ready: Trainers, least: int) -> Trainers:
    """Who still follows the others gets its seat when it is level with them; if they cannot go on
    without, at once."""
    seats = {(seat.peer, seat.child) for seat in newest.seats}
    able = {
        peer: trainer
        for peer, trainer in ready.items()
        if (peer, trainer.child) in seats or not trainer.ready.get("learning")
    }
    go_on = any((peer, trainer.child) in seats for peer, trainer in able.items())
    return able if go_on and len(able) >= least else ready


def _begin(
    job: Job, ready: Trainers, names: Names, waited_s: float, reached: int, why: str
) -> Iterator[Command]:
    """No trainer has made a step of it: from a checkpoint, if there is one."""
    reason = must_wait(job, ready.keys(), names.keys(), names, waited_s)
    if reason is not None:
        yield from _says(job, reason)
        return
    back = way_back(job, ready.keys())
    number = job.generation.number + 1 if job.generation else 1
    begins = all(made.start_step is None for made in job.generations)
    if begins and back is not None and job.origin is not None:
        why += f" from the checkpoint of step {back.step} of {job.origin[0]}"
    elif back is not None or job.mark is not None:
        where = f"the checkpoint of step {back.step}" if back else "the beginning"
        why += f"; every trainer was lost: back to {where}"
    yield {**_generation(job, number, ready, why), "reached": reached}


def _waits(job: Job, least: int, have: int) -> Iterator[Command]:
    reason = f"waits for {least} ready peers, {have} now"
    if have and least > have:
        reason += f": `p2pnode add {least - have}`"
    if job.excluded:
        reason += f" ({'; '.join(job.excluded.values())})"
    yield from _says(job, reason[:TEXT_MAX])


def _says(job: Job, reason: str) -> Iterator[Command]:
    if job.reason != reason:
        yield {"type": "job.wait", "job": job.id, "reason": reason}


def split_anew(job: Job, newest: Generation, names: Names, trainers: Trainers) -> Iterator[Command]:
    """Shards move from the slow to the fast when that makes steps shorter; who is too slow for a
    single one is set aside."""
    seated = seated_reports(newest, trainers)
    paces = [told.paces for told in seated if of(newest, told.progress) and told.paces]
    if newest.start_step is None or len(paces) < len(newest.seats) or _is_even(job):
        return
    held = [seat.last_shard - seat.first_shard for seat in newest.seats]
    slow = hopeless(held, paces)
    if slow is not None and len(held) > int(job.spec.get("peers_min") or 1):
        name = names[newest.seats[slow].peer]
        sentence = f"{name} is set aside: a single shard takes it {paces[slow].newer.shard_s:.2g} s"
        yield set_aside(job, newest.seats[slow].peer, f"{sentence}, which holds up all others")
        return
    counts = better(held, paces)
    if counts is not None:
        ready = {seat.peer: trainers[seat.peer] for seat in newest.seats}
        yield _generation(job, newest.number + 1, ready, _moves(newest, names, paces, counts))


def _moves(newest: Generation, names: Names, paces: list[Paces], counts: list[int]) -> str:
    parts = []
    for seat, told, count in zip(newest.seats, paces, counts, strict=True):
        had = seat.last_shard - seat.first_shard
        if count != had:
            took = f"{1000 * told.newer.shard_s:.3g} ms each"
            parts.append(f"{names[seat.peer]} has {count} instead of {had} ({took})")
    return f"shards move to the fast: {', '.join(parts)}"[:TEXT_MAX]


def _is_even(job: Job) -> bool:
    return catalog.find(job.method.strategy).one_voice


def _counts(job: Job, ready: Trainers) -> list[int]:
    """Of each, in order: by what a shard takes them, as far as that is known."""
    told = [ready[peer].paces for peer in sorted(ready)]
    shard_s = [None if paces is None or _is_even(job) else paces.newer.shard_s for paces in told]
    return deal(int(job.spec["shards"]), filled(shard_s))


def _generation(job: Job, number: int, ready: Trainers, reason: str) -> Command:
    order = sorted(ready)
    shares = ranges(_counts(job, ready))
    return {
        "type": "job.generation",
        "job": job.id,
        "number": number,
        "reason": reason,
        "steps_total": max(trainer.ready.get("steps_total", 0) for trainer in ready.values()),
        **_samples(ready),
        "seats": [
            {
                "peer": peer,
                "child": ready[peer].child,
                "endpoints": ready[peer].ready["endpoints"],
                "first_shard": shares[rank][0],
                "last_shard": shares[rank][1],
            }
            for rank, peer in enumerate(order)
        ],
    }


def _samples(ready: Trainers) -> dict[str, Any]:
    """All trainers have the same: see p2p.control.data."""
    for trainer in ready.values():
        epoch, step = (trainer.ready.get(name) for name in ("train_samples", "global_batch"))
        if epoch is not None and step is not None:
            return {"samples": {"epoch": epoch, "step": step}}
    return {}


def _why(usable: Set[str], names: Names, lost: list[str], joined: list[str], reset: str) -> str:
    def name(peer: str) -> str:
        return names.get(peer, peer)  # a removed peer has no name any more

    gone = [f"{name(peer)} was lost" for peer in lost if peer not in usable]
    ended = [
        f"the trainer of {name(peer)} ended"
        for peer in lost
        if peer in usable and peer not in joined
    ]
    came = [f"{name(peer)} joined" for peer in joined]
    return "; ".join([*gone, *ended, *came, *([reset] if reset else [])]) or "resumed"
