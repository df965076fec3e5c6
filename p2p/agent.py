"""plan(state, local) -> actions: what one peer does to its own trainers. Pure.

The agent makes what runs here match what the log says, and fences it: a trainer steps only in the
newest generation, and only while this peer holds a live lease from the leader.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from p2p.control.deadlines import Pulse, hung
from p2p.replicated.service import ModelFile
from p2p.replicated.state import Job, State

# A trainer that keeps dying is restarted after 0, 0.5, 1, 2, … s, then given up.
CRASHES_MAX = 6
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
# So much training makes up for one crash: who dies after each step is no better than who never
# gets there.
FORGIVEN_EVERY_S = 10.0
STATUS_WITHIN_S = 1.0  # of an end, how it came about is known


@dataclass(frozen=True, slots=True)
class LocalTrainer:
    """A trainer child of this peer, as its host sees it."""

    child: str
    job: str
    phase: str  # starting | ready | failed | stopping
    told_generation: int = 0
    held: bool = False
    gpu: str | None = None  # its uuid; None = it computes on the CPU
    pulse: Pulse | None = None
    told_follow: int = 0  # the generation that it was told to follow
    told_asks: int = 0  # how many of the wishes for a checkpoint it knows


@dataclass(frozen=True, slots=True)
class DataVerdict:
    """What was found out about a job's dataset here: the path of a checked copy (None: the task
    finds it by itself), or why there is none.
    """

    path: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often a job's trainer died here, less what was forgiven. `how` the last one did, once
    that is known."""

    count: int
    last_s: float
    how: str = ""

    def and_another(self, now_s: float, trained_s: float, how: str) -> "Crashes":
        forgiven = int(trained_s / FORGIVEN_EVERY_S)
        return replace(self, count=max(0, self.count - forgiven) + 1, last_s=now_s, how=how)


@dataclass(frozen=True, slots=True)
class File:
    """A part of a checkpoint on this peer's disk."""

    job: str
    step: int


@dataclass(frozen=True, slots=True)
class Local:
    self_id: str
    now_s: float
    leaving: bool
    warm: bool  # the spare can fork
    trainers: Mapping[str, LocalTrainer]  # by job
    crashes: Mapping[str, Crashes]  # by job
    files: Mapping[str, File] = field(default_factory=dict)  # parts of checkpoints, by path
    gpus: tuple[str, ...] = ()  # that trainers here may be given, by uuid; none = they take the CPU
    unstartable: str | None = None  # why no trainer can be started, for some time now
    data: Mapping[str, DataVerdict] = field(default_factory=dict)  # by job that names a dataset


@dataclass(frozen=True, slots=True)
class Start:
    job: Job
    gpu: str | None = None
    data: str | None = None  # the path of the dataset that the job names


@dataclass(frozen=True, slots=True)
class Prepare:
    """A job's dataset shall be here, and checked, before its trainer starts."""

    job: Job


@dataclass(frozen=True, slots=True)
class Stop:
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """At once: it would not hear that it shall stop."""

    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The leader shall set this peer aside for the job."""

    job: str
    error: str


@dataclass(frozen=True, slots=True)
class Tell:
    """A message for a trainer: a generation, a hold or the wish for a checkpoint."""

    child: str
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a part of a checkpoint that the log does not keep."""

    path: str


Action = Prepare | Start | Stop | Kill | GiveUp | Tell | Remove


def plan(state: State, local: Local) -> list[Action]:
    return [
        *_stops(state, local),
        *_kills(local),
        *_starts(state, local),
        *_tells(state, local),
        *_removes(state, local),
    ]


def backoff_s(crashes: int) -> float:
    """Seconds to wait before the restart after `crashes` crashes in a row."""
    if crashes <= 1:
        return 0.0
    return float(min(BACKOFF_FIRST_S * 2 ** (crashes - 2), BACKOFF_MAX_S))


def _stops(state: State, local: Local) -> Iterator[Stop]:
    for trainer in local.trainers.values():
        job = state.jobs.get(trainer.job)
        if job is None or job.is_final:
            yield Stop(trainer.child, "its job has ended")
        elif local.self_id not in job.assigned and local.self_id not in job.members:
            # Until a generation without it stands, an unassigned trainer finishes its step.
            yield Stop(trainer.child, "its job runs elsewhere")


def _kills(local: Local) -> Iterator[Kill]:
    """Who hangs holds up all the others, and hears nothing."""
    for trainer in local.trainers.values():
        if trainer.phase == "ready" and trainer.pulse is not None and not trainer.held:
            why = hung(trainer.pulse, local.now_s)
            if why is not None:
                yield Kill(trainer.child, why)


def _starts(state: State, local: Local) -> Iterator[Prepare | Start | GiveUp]:
    if local.leaving:
        return
    used = Counter(trainer.gpu for trainer in local.trainers.values())
    for job in state.jobs.values():
        wanted = not job.is_final and local.self_id in job.assigned
        if not wanted or job.id in local.trainers:
            continue
        data = local.data.get(job.id) if "dataset" in job.spec else DataVerdict()
        if data is None:
            yield Prepare(job)
            continue
        if data.problem:
            yield GiveUp(job.id, data.problem)
            continue
        crashes = local.crashes.get(job.id, Crashes(0, 0.0))
        since_s = local.now_s - crashes.last_s
        if crashes.count >= CRASHES_MAX:
            if crashes.how or since_s >= STATUS_WITHIN_S:
                how = crashes.how or "its process ended"
                yield GiveUp(job.id, f"its trainer died {crashes.count} times in a row: {how}")
        elif local.warm and since_s >= backoff_s(crashes.count):
            # A GPU of its own where there are enough, else the one with the fewest trainers.
            gpu = min(local.gpus, key=lambda uuid: used[uuid], default=None)
            used[gpu] += 1
            yield Start(job, gpu, data.path)
        elif not local.warm and local.unstartable is not None:
            yield GiveUp(job.id, local.unstartable)


def _removes(state: State, local: Local) -> Iterator[Remove]:
    """A file may be newer than what is agreed: then it is a part of what soon will be."""
    kept = {
        part.path
        for job in (state.jobs.values() if local.files else ())
        for made in job.checkpoints
        for part in made.parts
        if part.peer == local.self_id
    }
    kept |= {file.path for file in files_served(state, local.self_id)}
    for path, file in local.files.items():
        owner = state.jobs.get(file.job)
        if path in kept or owner is None:  # of a job that this log does not know: not ours to judge
            continue
        oldest = owner.checkpoints[0].step if owner.checkpoints else 0
        if file.step < oldest or (owner.is_final and file.job not in local.trainers):
            yield Remove(path)


def files_served(state: State, peer: str) -> list[ModelFile]:
    """What lies on this peer and is served, though its job may keep newer checkpoints only."""
    served = [service for service in state.services.values() if not service.is_ended]
    return [f for service in served for f in service.revision.files if f.peer == peer]


def _tells(state: State, local: Local) -> Iterator[Tell]:
    for trainer in local.trainers.values():
        job = state.jobs.get(trainer.job)
        if job is None or job.is_final or trainer.phase != "ready":
            continue
        newest = job.generation
        if newest is None:
            continue
        if newest.closed and not trainer.held:
            yield Tell(trainer.child, {"kind": "hold", "wanted": job.state == "paused"})
        seats = [(seat.peer, seat.child) for seat in newest.seats]
        seated = (local.self_id, trainer.child) in seats
        if not newest.closed and seated and trainer.told_generation < newest.number:
            yield Tell(trainer.child, generation_message(job, local.self_id))
        elif not newest.closed and not seated and not trainer.held and trainer.told_generation:
            yield Tell(trainer.child, {"kind": "hold", "wanted": False})
        waits = not seated and not trainer.told_generation  # it never had a seat
        if not newest.closed and waits and trainer.told_follow < newest.number:
            order = generation_message(job, local.self_id)
            yield Tell(trainer.child, {**order, "kind": "follow", "checkpoints": []})
        if job.asked and seated and trainer.told_asks < job.asks:
            yield Tell(trainer.child, {"kind": "checkpoint", "number": job.asks})


def generation_message(job: Job, self_id: str) -> dict[str, Any]:
    """With what this peer has of the job's checkpoints, should no trainer be left to ask."""
    newest = job.generation
    assert newest is not None
    return {
        "kind": "generation",
        "number": newest.number,
        "members": [
            {"peer": seat.peer, "endpoints": dict(seat.endpoints)} for seat in newest.seats
        ],
        "shards": [[seat.first_shard, seat.last_shard] for seat in newest.seats],
        "in_order": in_order(job),
        "mark_every_s": 0.5,
        "method": newest.method.to_order(),
        "checkpoints": [
            {
                "step": made.step,
                "state_hash": made.state_hash,
                "count": made.count,
                "parts": [
                    {"number": part.number, "path": part.path, "digest": part.digest}
                    for part in made.parts
                    if part.peer == self_id
                ],
            }
            for made in job.checkpoints
        ],
    }


def in_order(job: Job) -> bool:
    """Whether the newest generation has all trainers of the one before, which steps: then those may
    finish their round before they leave it, and the newcomers wait as long."""
    if len(job.generations) < 2:
        return False
    before, newest = job.generations[-2:]
    stays = {(seat.peer, seat.child) for seat in newest.seats}
    able = before.start_step is not None and not before.closed
    return able and stays >= {(seat.peer, seat.child) for seat in before.seats}
