"""Checkpoints: what trainers wrote goes into the log once all parts of it are on disk; what could
not be written or read has consequences; and a job without a living trainer goes back to one.
"""

from collections.abc import Container, Iterator, Mapping, Set
from typing import Any

from p2p.control.failures import set_aside
from p2p.control.seated import Command, Names, Trainers, of, pairs
from p2p.replicated.state import Checkpoint, Generation, Job
from p2p.reports import TrainerReport

# How long a job that lost all its trainers waits for peers that have its newest checkpoint, before
# it goes back to an older one.
HOLDERS_S = 30.0

Key = tuple[int, int, str]  # step, number of parts, hash of the state


def checkpoints(job: Job, newest: Generation, trainers: Trainers) -> Iterator[Command]:
    fence = {"job": job.id, "generation": newest.number}
    told: dict[Key, dict[str, Mapping[str, Any]]] = {}
    for peer, trainer in trainers.items():
        for each in trainer.checkpoints:
            told.setdefault((each["step"], each["count"], each["state_hash"]), {})[peer] = each
    known = {each.step for each in job.checkpoints}
    oldest = min(known, default=-1)
    for key, by_peer in sorted(told.items()):
        step, count, state_hash = key
        # Before its trainers have said where it begins, nobody knows which steps are to come again.
        if step in known or step < oldest or newest.start_step is None:
            continue
        parts = [{**part, "peer": peer} for peer, each in by_peer.items() for part in each["parts"]]
        complete = {part["number"] for part in parts} >= set(range(count))
        if not complete or _more_to_come(job, trainers, key, by_peer):
            continue
        made = {"step": step, "state_hash": state_hash, "count": count, "parts": parts}
        yield {"type": "job.checkpoint", **fence, "checkpoint": made, "asks": _asks(by_peer)}
    answered = max((_asks(by_peer) for key, by_peer in told.items() if key[0] in known), default=0)
    if job.asked and answered >= job.asks:  # with what was there already: the job stands still
        yield {"type": "job.checkpoint_answered", **fence, "asks": answered}
    for seat, trainer in pairs(newest, trainers):
        failed = trainer.checkpoint_failed
        # Several may keep the report of a failure; an older one must not replace a newer for ever.
        newest_failed = -1 if job.failed_checkpoint is None else job.failed_checkpoint
        if failed and failed["step"] > newest_failed:
            said = {"step": failed["step"], "error": failed["error"], "peer": seat.peer}
            yield {"type": "job.checkpoint_failed", **fence, **said}


def _asks(by_peer: Mapping[str, Mapping[str, Any]]) -> int:
    """How many wishes for a checkpoint this one answers."""
    return max(int(each.get("asks", 0)) for each in by_peer.values())


def copies(job: Job, trainers: Trainers) -> Iterator[Command]:
    """More copies of what is in the log: written late, or fetched from another peer."""
    for made in job.checkpoints:
        known = {(part.number, part.peer) for part in made.parts}
        digests = {(part.number, part.digest) for part in made.parts if part.digest}
        new = [
            {**part, "peer": peer}
            for peer, trainer in trainers.items()
            for each in trainer.checkpoints
            if (each["step"], each["count"]) == (made.step, made.count)
            for part in each["parts"]
            if (part["number"], part["digest"]) in digests and (part["number"], peer) not in known
        ]
        if new:
            told = {"job": job.id, "step": made.step, "parts": new}
            yield {"type": "job.checkpoint_copy", **told}


def _more_to_come(
    job: Job, trainers: Trainers, key: Key, by_peer: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether a trainer that writes parts of this checkpoint, too, is still at it."""
    number, writers = max((each["generation"], each["writers"]) for each in by_peer.values())
    written_in = [made for made in job.generations if made.number == number]
    return any(
        seat.peer not in by_peer and not _is_past(trainer, key[0])
        for made in written_in
        for seat, trainer in pairs(made, trainers)
        if trainer.is_ready and seat in made.seats[:writers]
    )


def _is_past(trainer: TrainerReport, step: int) -> bool:
    failed = int(trainer.checkpoint_failed.get("step", -1))
    return max([failed, *(int(each["step"]) for each in trainer.checkpoints)]) >= step


def unwritten(job: Job, names: Names, trainers: Trainers) -> Command | None:
    """The final checkpoint cannot be written where it should be: somebody else writes it, or the
    last trainer keeps the weights until there is room.
    """
    newest = job.generation
    if newest is None or newest.closed:
        return None
    for seat, trainer in pairs(newest, trainers):
        failed = trainer.checkpoint_failed
        if failed.get("final_of") != newest.number:
            continue
        error = str(failed["error"])
        if len(newest.seats) > 1:
            return set_aside(job, seat.peer, f"{names[seat.peer]} is set aside: {error}")
        reason = f"{error}; then `p2pnode resume {job.id}`"
        return {"type": "job.pause", "job": job.id, "reason": reason}
    return None


def unusable(job: Job, trainers: Trainers) -> Command | None:
    """The trainers were to go back to a checkpoint, and no intact copy of some part is left."""
    newest = job.generation
    if newest is None or newest.closed:
        return None
    told = {s.peer: of(newest, trainer.unusable) for s, trainer in pairs(newest, trainers)}
    if len(told) < len(newest.seats) or not all(told.values()):
        return None
    first = next(iter(told.values()))
    if not any(each.step == first["step"] for each in job.checkpoints):
        return None
    bad = [[number, peer] for peer, said in told.items() for number in said["bad"]]
    fence = {"job": job.id, "generation": newest.number}
    facts = {"step": first["step"], "error": first["error"], "bad": bad}
    return {"type": "job.checkpoint_unusable", **fence, **facts}


def unfetchable(job: Job, trainers: Trainers) -> Command | None:
    """A part of the checkpoint that the job begins from cannot be fetched: no copy is sound."""
    listed = {(m.step, part.number, part.peer) for m in job.checkpoints for part in m.parts}
    for trainer in trainers.values():
        told = trainer.unfetchable
        if told and told["bad"] and all((told["step"], *pair) in listed for pair in told["bad"]):
            number = job.generation.number if job.generation else 0
            return {
                "type": "job.checkpoint_unusable",
                "job": job.id,
                "generation": number,
                **{name: told[name] for name in ("step", "error", "bad")},
            }
    return None


def is_alive(job: Job, ready: Trainers) -> bool:
    """Whether a trainer that made a step of the job is still there, and so its newest state."""
    return any(
        seat.peer in ready and ready[seat.peer].child == seat.child
        for made in job.generations
        if made.start_step is not None
        for seat in made.seats
    )


def way_back(job: Job, ready: Container[str]) -> Checkpoint | None:
    """The checkpoint that trainers on these peers begin from, when no other state is left."""
    found = [each for each in job.checkpoints if each.is_within(ready)]
    return found[-1] if found else None


def must_wait(
    job: Job, ready: Set[str], members: Set[str], names: Names, waited_s: float
) -> str | None:
    """Without a living trainer: why the job waits for more peers than these before it begins.

    None: it need not. `members` may still come, those not among them never will.
    """
    within_reach = [each for each in job.checkpoints if each.is_within(members)]
    best, now = (within_reach[-1] if within_reach else None), way_back(job, ready)
    if best is None and job.origin is not None and now is None:
        return f"the checkpoint of step {job.origin[1]} of {job.origin[0]} is gone with the peers "\
            f"that had it: `p2pnode cancel {job.id}`"  # fmt: skip
    if best is None or (now is not None and waited_s >= HOLDERS_S):
        return None
    lacking = [held for held in best.holders.values() if not any(peer in ready for peer in held)]
    if not any(peer in members for held in lacking for peer in held):
        return None
    wanted = sorted({names.get(peer, peer) for held in lacking for peer in held if peer in members})
    either = "one of " if len(wanted) > 1 else ""
    return f"waits for {either}{', '.join(wanted)}, where the rest of the checkpoint of step " \
        f"{best.step} is"  # fmt: skip
