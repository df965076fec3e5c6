"""What the trainers of the newest generation say of it: that it steps, where it stands, its end."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from p2p.control.checkpoints import checkpoints
from p2p.control.failures import set_aside
from p2p.control.seated import Command, Names, Trainers, of, seated_reports
from p2p.errors import Usage
from p2p.replicated.state import TEXT_MAX, Generation, Job
from p2p.reports import TrainerReport
from p2p.training.method import check


def facts(job: Job, names: Names, trainers: Trainers) -> Iterator[Command]:
    """What trainers of the newest generation report: its entry, marks, checkpoints."""
    newest = job.generation
    if newest is None:
        return
    seated = seated_reports(newest, trainers)
    fence = {"job": job.id, "generation": newest.number}
    entered = [of(newest, trainer.entered) for trainer in seated]
    if newest.start_step is None and len(seated) == len(newest.seats) and all(entered):
        stalls = [told["stall_s"] for told in entered if told.get("stall_s") is not None]
        yield {
            "type": "job.entered",
            **fence,
            "start_step": max(told["start_step"] for told in entered),
            "stall_s": max(stalls, default=None),
            "steps_repeated": max(told["steps_repeated"] for told in entered),
        }
    yield from marks(job, newest, names, seated)
    yield from checkpoints(job, newest, trainers)


def marks(
    job: Job, newest: Generation, names: Names, seated: list[TrainerReport]
) -> Iterator[Command]:
    """A mark once every trainer of the generation says the same of the same step."""
    said = [of(newest, trainer.finished) or of(newest, trainer.mark) for trainer in seated]
    if len(said) != len(newest.seats) or not all(said):
        return
    first = said[0]
    if any(mark["step"] != first["step"] for mark in said):
        return
    if len({mark["state_hash"] for mark in said}) > 1:
        named = [str(mark["differs"]) for mark in said if "differs" in mark]
        if named:  # else they are still finding out
            yield _unequal(job, newest, names, said, named[0])
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


def _unequal(
    job: Job, newest: Generation, names: Names, said: list[Mapping[str, Any]], differs: str
) -> Command:
    """One trainer has other bits than most: it cannot be trusted. Where there is no majority, the
    task is not deterministic, or nobody can say which machine erred."""
    step, first = said[0]["step"], f"{differs} differs first"
    odd = odd_one_out(
        {seat.peer: mark["state_hash"] for seat, mark in zip(newest.seats, said, strict=True)}
    )
    if odd is not None:
        text = f"{names[odd]} has other weights than the rest after step {step}: {first}"
        return set_aside(job, odd, text[:TEXT_MAX])
    text = (
        f"the trainers have different weights after step {step}: {first}; is the optimizer "
        "deterministic? --allow-nondeterminism goes on without the same bits"
    )
    return {"type": "job.fail", "job": job.id, "reason": text[:TEXT_MAX]}


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
    """The peer whose hash more than half of all do not have; None if all agree, or no half does."""
    votes = list(hashes.values())
    most = max(votes, key=votes.count)
    if 2 * votes.count(most) <= len(votes):
        return None
    return next((peer for peer in sorted(hashes) if hashes[peer] != most), None)


def end(job: Job, trainers: Trainers) -> Command | None:
    newest = job.generation
    if newest is None or newest.start_step is None or job.mark is None:
        return None
    if job.state not in ("running", "recovering"):
        return None  # a paused job ends after it was resumed
    seated = seated_reports(newest, trainers)
    ends = [of(newest, trainer.finished) for trainer in seated]
    if len(ends) != len(newest.seats) or not all(ends):
        return None
    if any(end["step"] != job.mark.step for end in ends):
        return None
    if not any(made.step == job.mark.step for made in job.checkpoints):
        return None
    return {"type": "job.finish", "job": job.id, "generation": newest.number}
