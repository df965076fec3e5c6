"""What cannot go on as it is: the user's code raised, a machine fails, a method does not fit."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from p2p.control.seated import Command, Names, Trainers, of, seated_reports
from p2p.replicated.state import Job, Member, as_submitted


def failure(
    job: Job, members: Mapping[str, Member], usable: Set[str], trainers: Trainers
) -> Command | None:
    """The user's code raised: the same would happen everywhere, so the job ends with the reason.

    What failed for a reason of the machine (memory, disk, a trainer that keeps crashing) sets
    that peer aside; with no peer left the job fails too.
    """
    for peer, trainer in trainers.items():
        if trainer.phase != "failed":
            continue
        error = str(trainer.failed.get("error", "failed"))
        if trainer.failed.get("user_error"):
            return {"type": "job.fail", "job": job.id, "reason": error}
        return set_aside(job, peer, f"{members[peer].name} is set aside: {error}")
    able = {peer for peer in usable if members[peer].slots > 0}
    if job.excluded and not job.assigned and not able - set(job.excluded):
        reasons = "; ".join(job.excluded.values())
        return {"type": "job.fail", "job": job.id, "reason": f"no peer is left: {reasons}"}
    return None


def crashes(job: Job, names: Names, trainers: Trainers) -> Iterator[Command]:
    """What died is told of once, with what happens next."""
    for peer, trainer in trainers.items():
        told = trainer.crashed
        if not told or not told["error"] or job.crashed.get(peer) == told["child"]:
            continue
        reason = crash_sentence(f"the trainer of {names[peer]}", told)
        fields = {"peer": peer, "child": told["child"], "reason": reason}
        yield {"type": "job.crashed", "job": job.id, **fields}


def crash_sentence(who: str, told: Mapping[str, Any]) -> str:
    """`told`: as p2p.control.crash_records has it."""
    again = f"in {told['again_s']:g} s" if told["again_s"] else "at once"
    row = f", {told['count']} times in a row" if told["count"] > 1 else ""
    return f"{who}: {told['error']}{row}; it starts again {again}"


def refused(job: Job, trainers: Trainers) -> Command | None:
    """The method that was set cannot be with this task: back to the last one that made a step."""
    newest = job.generation
    if newest is None or newest.method.revision != job.method.revision:
        return None
    told = [of(newest, trainer.refused) for trainer in seated_reports(newest, trainers)]
    errors = [str(one["error"]) for one in told if one]
    if not errors:
        return None
    revision = job.method.revision
    proven = [made.method for made in job.generations if made.start_step is not None]
    back = next((m for m in reversed(proven) if m.revision != revision), as_submitted(job.spec))
    if (back.strategy, back.codec, back.options) == (
        *(job.method.strategy, job.method.codec, job.method.options),
    ):
        return {"type": "job.fail", "job": job.id, "reason": errors[0]}
    reason = f"{newest.method.strategy} with {newest.method.codec} cannot be: {errors[0]}"
    method = {**back.to_order(), "auto": False}
    order = {"method": method, "after_revision": revision, "reason": f"set back: {reason}"}
    return {"type": "job.set", "job": job.id, **order}


def set_aside(job: Job, peer: str, sentence: str) -> Command:
    return {
        "type": "job.assign",
        "job": job.id,
        "peers": [other for other in job.assigned if other != peer],
        "excluded": {peer: sentence},
        "reason": sentence,
    }
