"""What a running job needs next: a generation, a mark, an end. Pure rules, first match wins
where they exclude each other.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from p2p.errors import Usage
from p2p.reports import Observed, TrainerReport
from p2p.state import TEXT_MAX, Generation, Job, Member, Seat, as_submitted
from p2p.training.method import check

Command = dict[str, Any]
Trainers = Mapping[str, TrainerReport]
Names = Mapping[str, str]

# How long ready trainers wait for the others' to warm up before a job starts without them.
WARM_UP_S = 5.0


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
    failure = _failure(job, members, usable, trainers)
    if failure is not None:
        yield failure
        return
    refused = _refused(job, trainers)
    if refused is not None:
        yield refused
        return
    yield from _facts(job, names, trainers)
    unwritten = _unwritten(job, names, trainers)
    if unwritten is not None:
        yield unwritten
        return
    end = _end(job, trainers)
    if end is not None:
        yield end
        return
    concerned = {*job.members, *job.assigned} & usable
    if job.state != "paused" and concerned <= set(observed.reports):
        # A new leader judges no trainer before its peer has reported, or counts as dead.
        since_s = [observed.ready_s[child] for child in _ready_children(trainers, observed)]
        impatient = observed.now_s - min(since_s, default=observed.now_s) >= WARM_UP_S
        yield from _form(job, usable, names, trainers, impatient)


def _failure(
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


def _refused(job: Job, trainers: Trainers) -> Command | None:
    """The method that was set cannot be with this task: back to the last one that made a step."""
    newest = job.generation
    if newest is None or newest.method.revision != job.method.revision:
        return None
    told = [_of(newest, trainer.refused) for trainer in _seated(newest, trainers)]
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


def _unwritten(job: Job, names: Names, trainers: Trainers) -> Command | None:
    """The final checkpoint cannot be written where it should be: somebody else writes it, or the
    last trainer keeps the weights until there is room.
    """
    newest = job.generation
    if newest is None or newest.closed:
        return None
    for seat, trainer in _pairs(newest, trainers):
        failed = trainer.checkpoint_failed
        if failed.get("final_of") != newest.number:
            continue
        error = str(failed["error"])
        if len(newest.seats) > 1:
            return set_aside(job, seat.peer, f"{names[seat.peer]} is set aside: {error}")
        reason = f"{error}; then `p2pnode resume {job.id}`"
        return {"type": "job.pause", "job": job.id, "reason": reason}
    return None


def set_aside(job: Job, peer: str, sentence: str) -> Command:
    return {
        "type": "job.assign",
        "job": job.id,
        "peers": [other for other in job.assigned if other != peer],
        "excluded": {peer: sentence},
        "reason": sentence,
    }


def _facts(job: Job, names: Names, trainers: Trainers) -> Iterator[Command]:
    """What trainers of the newest generation report: its entry, marks, checkpoints."""
    newest = job.generation
    if newest is None:
        return
    seated = _seated(newest, trainers)
    fence = {"job": job.id, "generation": newest.number}
    entered = [_of(newest, trainer.entered) for trainer in seated]
    if newest.start_step is None and len(seated) == len(newest.seats) and all(entered):
        stalls = [facts["stall_s"] for facts in entered if facts.get("stall_s") is not None]
        yield {
            "type": "job.entered",
            **fence,
            "start_step": max(facts["start_step"] for facts in entered),
            "stall_s": max(stalls, default=None),
            "steps_repeated": max(facts["steps_repeated"] for facts in entered),
        }
    yield from _mark(job, newest, names, seated)
    yield from _checkpoints(job, newest, trainers)


def _checkpoints(job: Job, newest: Generation, trainers: Trainers) -> Iterator[Command]:
    fence = {"job": job.id, "generation": newest.number}
    known = {(made.step, made.peer) for made in job.checkpoints}
    fields = ("step", "path", "bytes", "seconds", "state_hash")
    for seat, trainer in _pairs(newest, trainers):
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


def _mark(
    job: Job, newest: Generation, names: Names, seated: list[TrainerReport]
) -> Iterator[Command]:
    """A mark once every trainer of the generation says the same of the same step."""
    marks = [_of(newest, trainer.finished) or _of(newest, trainer.mark) for trainer in seated]
    if len(marks) != len(newest.seats) or not all(marks):
        return
    first = marks[0]
    if any(mark["step"] != first["step"] for mark in marks):
        return
    odd = odd_one_out(
        {seat.peer: mark["state_hash"] for seat, mark in zip(newest.seats, marks, strict=True)}
    )
    if odd is not None:
        yield set_aside(
            job, odd, f"{names[odd]} has other weights than the rest after step {first['step']}"
        )
        return
    if job.mark is None or job.mark.step != first["step"]:
        rates = [trainer.progress.get("samples_per_second", 0.0) for trainer in seated]
        fields = ("step", "epoch", "samples", "loss", "metrics", "state_hash")
        facts = {name: first[name] for name in fields}
        yield {
            "type": "job.mark",
            "job": job.id,
            "generation": newest.number,
            "mark": {**facts, "samples_per_second": max(rates, default=0.0)},
            "ledger": _ledger_news(job, first["ledger"]),
            **_notices(newest, first),
        }
    yield from _wished(job, newest, first)


def _notices(newest: Generation, mark: Mapping[str, Any]) -> dict[str, Any]:
    """Trainers know each other by rank only; all say the same."""
    seats = newest.seats
    found = [
        {"text": said["text"], "peer": None if rank is None else seats[rank].peer}
        for said in mark.get("notices", ())
        if (rank := said["rank"]) is None or 0 <= rank < len(seats)
    ]
    return {"notices": found} if found else {}


def _wished(job: Job, newest: Generation, mark: Mapping[str, Any]) -> Iterator[Command]:
    """What the trainers ask for by `auto`, unless another method is on its way already."""
    wish = mark.get("wish")
    if wish is None or not job.method.auto or newest.method.revision != job.method.revision:
        return
    wished = replace(job.method, strategy=wish["strategy"], codec=wish["codec"])
    try:
        check(wished, int(job.spec["shards"]))
    except Usage:
        return
    reason = f"{wished.strategy} with {wished.codec} chosen by auto: {wish['reason']}"
    told = {"method": wished.to_order(), "after_revision": job.method.revision}
    yield {"type": "job.set", "job": job.id, **told, "reason": reason[:TEXT_MAX]}


def _ledger_news(job: Job, told: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows from the first that the log does not have: a long run has thousands of epochs."""
    known: dict[Any, Mapping[str, Any]] = {row["epoch"]: row for row in job.ledger}
    same = 0
    while same < len(told) - 1 and known.get(told[same]["epoch"]) == told[same]:
        same += 1
    return told[same:]


def odd_one_out(hashes: Mapping[str, str]) -> str | None:
    """The peer whose hash is in the minority; of equal halves, the later id; None if all agree."""
    if len(set(hashes.values())) == 1:
        return None
    votes = list(hashes.values())
    return min(sorted(hashes, reverse=True), key=lambda peer: votes.count(hashes[peer]))


def _end(job: Job, trainers: Trainers) -> Command | None:
    newest = job.generation
    if newest is None or newest.start_step is None or job.mark is None:
        return None
    if job.state not in ("running", "recovering"):
        return None  # a paused job ends after it was resumed
    seated = _seated(newest, trainers)
    ends = [_of(newest, trainer.finished) for trainer in seated]
    if len(ends) != len(newest.seats) or not all(ends):
        return None
    if any(end["step"] != job.mark.step for end in ends):
        return None
    if not any(made.step == job.mark.step for made in job.checkpoints):
        return None
    return {"type": "job.finish", "job": job.id, "generation": newest.number}


def _ready_children(trainers: Trainers, observed: Observed) -> list[str]:
    return [
        trainer.child
        for trainer in trainers.values()
        if trainer.is_ready and trainer.child in observed.ready_s
    ]


def _form(
    job: Job, usable: Set[str], names: Names, trainers: Trainers, impatient: bool
) -> Iterator[Command]:
    """A new generation when a seat was lost, when a trainer waits for one, or when another method
    was set.

    The first one waits for all assigned peers, unless `impatient`: who warms up late joins later.
    """
    ready = {peer: trainer for peer, trainer in trainers.items() if trainer.is_ready}
    newest = job.generation
    least = int(job.spec.get("peers_min") or 1)
    if newest is None:
        warming = [peer for peer in job.assigned if peer in usable and peer not in ready]
        if ready and (not warming or impatient) and len(ready) >= least:
            yield _generation(job, 1, ready, "the job starts")
        elif not warming and job.state == "starting":
            yield from _waits(job, least, len(ready))
        return
    lost = [
        seat.peer
        for seat in newest.seats
        if seat.peer not in ready or ready[seat.peer].child != seat.child
    ]
    joined = [peer for peer in ready if peer not in job.members or peer in lost]
    reset = newest.method.revision != job.method.revision
    if not (lost or joined or newest.closed or reset):
        return
    if newest.start_step is None and not (lost or newest.closed or reset):
        return  # one change at a time: the newest generation first makes a step
    if len(ready) < least or not ready:
        yield from _waits(job, least, len(ready))
        return
    why = _why(usable, names, lost, joined, job.method.reason if reset else "")
    yield _generation(job, newest.number + 1, ready, why)


def _waits(job: Job, least: int, have: int) -> Iterator[Command]:
    reason = f"waits for {least} ready peers, {have} now"
    if have and least > have:
        reason += f": `p2pnode add {least - have}`"
    if job.reason != reason:
        yield {"type": "job.wait", "job": job.id, "reason": reason}


def _generation(job: Job, number: int, ready: Trainers, reason: str) -> Command:
    shards = int(job.spec["shards"])
    order = sorted(ready)
    bounds = [shards * rank // len(order) for rank in range(len(order) + 1)]
    return {
        "type": "job.generation",
        "job": job.id,
        "number": number,
        "reason": reason,
        "steps_total": max(trainer.ready.get("steps_total", 0) for trainer in ready.values()),
        "seats": [
            {
                "peer": peer,
                "child": ready[peer].child,
                "endpoints": ready[peer].ready["endpoints"],
                "first_shard": bounds[rank],
                "last_shard": bounds[rank + 1],
            }
            for rank, peer in enumerate(order)
        ],
    }


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


def _seated(newest: Generation, trainers: Trainers) -> list[TrainerReport]:
    return [trainer for _, trainer in _pairs(newest, trainers)]


def _pairs(newest: Generation, trainers: Trainers) -> list[tuple[Seat, TrainerReport]]:
    return [
        (seat, trainers[seat.peer])
        for seat in newest.seats
        if seat.peer in trainers and trainers[seat.peer].child == seat.child
    ]


def _of(newest: Generation, message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message if it is of the newest generation, else nothing."""
    return message if message.get("generation") == newest.number else {}
