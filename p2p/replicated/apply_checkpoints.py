"""Commands about checkpoints: which there are, which are kept, which a new job begins from.

A checkpoint is in the log once all its parts are on disk. The newest few of a job are kept;
what is not in the log any more, the peers that have files of it delete (p2p.agent).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from p2p.replicated.job_records import Command, active, closed, fenced, moved, with_job
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.state import (
    CHECKPOINTS_KEPT,
    CHECKPOINTS_KEPT_MAX,
    TEXT_MAX,
    Checkpoint,
    Job,
    Part,
    State,
)

Result = tuple[State, Mapping[str, Any]]
PARTS_MAX = 4_096


def made(state: State, command: Command) -> Result:
    """A checkpoint is complete; of too many the oldest are let go."""
    job = fenced(state, command)
    new = _parsed(command["checkpoint"])
    others = [old for old in job.checkpoints if old.step != new.step]
    known = len(others) < len(job.checkpoints)
    ordered = sorted([*others, new], key=lambda each: each.step)
    job = replace(job, checkpoints=tuple(ordered[-kept_of(job) :]), asked=_asked(job, command))
    state = with_job(state, job)
    if known:
        return state, {}
    held = len({part.peer for part in new.parts})
    where = new.parts[0].path if held == 1 else f"{len(new.parts)} files on {held} peers"
    text = f"{job.name}: checkpoint of step {new.step} in {where}"
    return with_event(state, command, "checkpoint", text, peer=new.parts[0].peer, job=job.id), {}


def answered(state: State, command: Command) -> Result:
    """Who asked for a checkpoint has it: the job has made no step since the newest one."""
    job = fenced(state, command)
    if not job.asked or _asked(job, command):
        raise Rejected(f"{job.name}: nobody waits for that")
    return with_job(state, replace(job, asked=False)), {}


def _asked(job: Job, command: Command) -> bool:
    """Whether a checkpoint is still to come when this one, which answers so many asks, is there."""
    return job.asked and int(command.get("asks", job.asks)) < job.asks


def failed(state: State, command: Command) -> Result:
    """A periodic checkpoint could not be written somewhere; the job goes on."""
    job = fenced(state, command)
    if job.failed_checkpoint == command["step"]:
        raise Rejected(f"{job.name}: that was said already")
    state = with_job(state, replace(job, failed_checkpoint=int(command["step"]), asked=False))
    text = f"{job.name}: {command['error']}"
    told = {"peer": str(command["peer"]), "job": job.id}
    return with_event(state, command, "checkpoint-failed", text, severity="error", **told), {}


def ask(state: State, command: Command) -> Result:
    """Somebody wants a checkpoint now."""
    job = active(state, command)
    if job.generation is None:
        raise Rejected(f"{job.name} is {job.state}: it has nothing to save yet")
    state = with_job(state, replace(job, asks=job.asks + 1, asked=True))
    newest = job.checkpoint.step if job.checkpoint else None
    return state, {"job": job.id, "state": job.state, "newest": newest}


def unusable(state: State, command: Command) -> Result:
    """The `bad` copies of parts of a checkpoint are not what was written. The trainers had no
    others: perhaps another peer has, else people decide what next."""
    job, step = fenced(state, command), command["step"]
    left = tuple(each for each in job.checkpoints if each.step != step)
    if len(left) == len(job.checkpoints):
        raise Rejected(f"{job.name} has no checkpoint of step {step}")
    error = str(command["error"])[:TEXT_MAX]
    bad = {(number, peer) for number, peer in command["bad"]}
    (made,) = (each for each in job.checkpoints if each.step == step)
    parts = tuple(part for part in made.parts if (part.number, part.peer) not in bad)
    if len(parts) < len(made.parts) and {p.number for p in parts} >= set(range(made.count)):
        kept = tuple(replace(e, parts=parts) if e is made else e for e in job.checkpoints)
        state = with_job(state, closed(replace(job, checkpoints=kept, reason=error)))
        text = f"{job.name}: {error}; other peers have other copies"
        return with_event(
            state, command, "checkpoint-damaged", text, severity="warning", job=job.id
        ), {}
    job = replace(job, checkpoints=left)
    if job.origin is not None and not left:
        job = replace(moved(job, "failed", error), assigned=())
    else:
        back = f"step {left[-1].step}" if left else "the beginning"
        reason = f"{error}; `p2pnode resume {job.id}` goes on from {back}"
        job = closed(moved(job, "paused", reason))
    text = f"{job.name} {job.state}: {job.reason}"
    state = with_job(state, job)
    return with_event(state, command, "checkpoint-unusable", text, severity="error", job=job.id), {}


def copied(state: State, command: Command) -> Result:
    """More copies of parts of a checkpoint that is in the log."""
    job, step = active(state, command), command["step"]
    found = [each for each in job.checkpoints if each.step == step]
    if not found:
        raise Rejected(f"{job.name} has no checkpoint of step {step}")
    digests = {(part.number, part.digest) for part in found[0].parts}
    known = {(part.number, part.peer) for part in found[0].parts}
    new = [Part(**part) for part in command["parts"]]
    new = [
        part
        for part in new
        if (part.number, part.digest) in digests and (part.number, part.peer) not in known
    ]
    if not new:
        raise Rejected(f"{job.name}: these copies are known, or of something else")
    more = replace(found[0], parts=_ordered([*found[0].parts, *new]))
    changed = tuple(more if each.step == step else each for each in job.checkpoints)
    return with_job(state, replace(job, checkpoints=changed)), {}


def _ordered(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (part.number, part.peer)))


def kept_of(job: Job) -> int:
    """How many checkpoints of the job are kept."""
    wanted = job.spec.get("keep_checkpoints")
    return min(wanted, CHECKPOINTS_KEPT_MAX) if wanted else CHECKPOINTS_KEPT


def usable_only(job: Job, start_step: int) -> Job:
    """After a generation began at `start_step`: newer checkpoints, if there are, were of no use."""
    return replace(
        job, checkpoints=tuple(each for each in job.checkpoints if each.step <= start_step)
    )


def restored(state: State, wish: Mapping[str, Any], job: Job) -> tuple[Job, str]:
    """`job`, beginning from a checkpoint of another one, and what to say of it. Raises Rejected."""
    source, step = state.jobs.get(str(wish["job"])), wish["step"]
    found = [each for each in source.checkpoints if each.step == step] if source else []
    if source is None or not found:
        raise Rejected(f"there is no checkpoint of step {step} of {wish['job']} any more")
    begun = replace(
        job, checkpoints=(found[0],), origin=(source.id, found[0].step), was_set=source.was_set
    )
    return begun, f"{job.name} was submitted, to go on from step {step} of {source.name}"


def _parsed(told: Mapping[str, Any]) -> Checkpoint:
    """Raises ValueError, KeyError or TypeError when it is none, or lacks a part."""
    if "parts" not in told:  # of a version in which one trainer wrote all into one file
        whole = {name: told[name] for name in ("peer", "path", "bytes", "seconds")}
        told = {**told, "count": 1, "parts": [{**whole, "number": 0, "digest": ""}]}
    count = int(told["count"])
    parts = tuple(Part(**part) for part in told["parts"])
    numbers = {part.number for part in parts}
    if not 0 < count <= PARTS_MAX or not numbers >= set(range(count)):
        raise ValueError("a part of it is missing")
    return Checkpoint(int(told["step"]), str(told["state_hash"]), count, _ordered(parts))


CHECKPOINT_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "job.checkpoint": made,
    "job.checkpoint_copy": copied,
    "job.checkpoint_failed": failed,
    "job.checkpoint_ask": ask,
    "job.checkpoint_answered": answered,
    "job.checkpoint_unusable": unusable,
}
