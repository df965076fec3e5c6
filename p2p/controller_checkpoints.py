"""Checkpoints: what trainers wrote goes into the log, and what could not be written has
consequences.
"""

from collections.abc import Iterator

from p2p.controller_failures import set_aside
from p2p.seated import Command, Names, Trainers, pairs
from p2p.state import Generation, Job


def checkpoints(job: Job, newest: Generation, trainers: Trainers) -> Iterator[Command]:
    fence = {"job": job.id, "generation": newest.number}
    known = {(made.step, made.peer) for made in job.checkpoints}
    fields = ("step", "path", "bytes", "seconds", "state_hash")
    for seat, trainer in pairs(newest, trainers):
        for made in trainer.checkpoints:
            if (made["step"], seat.peer) not in known:
                facts = {name: made[name] for name in fields}
                yield {
                    "type": "job.checkpoint",
                    **fence,
                    "checkpoint": {**facts, "peer": seat.peer},
                }
        failed = trainer.checkpoint_failed
        # Several may keep the report of a failure; an older one must not replace a newer for ever.
        newest_failed = -1 if job.failed_checkpoint is None else job.failed_checkpoint
        if failed and failed["step"] > newest_failed:
            told = {"step": failed["step"], "error": failed["error"], "peer": seat.peer}
            yield {"type": "job.checkpoint_failed", **fence, **told}


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
