"""Parts of checkpoints that a job's peers lack come from peers that have them.

A job may go on elsewhere: restored on other peers, or after a peer was set aside. Then the newest
checkpoint's parts that none of its peers has are fetched, each by one of them, and the leader hears
of the new copies as it hears of what trainers write.
"""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from p2p.agent import files_served
from p2p.checkpoints.names import name_of
from p2p.checkpoints.shelf import Shelf
from p2p.content.contract import Content
from p2p.fetching import Fetching
from p2p.replicated.state import Checkpoint, Job, Part, State
from p2p.trainer_desk import TrainerDesk

_PREFIX = "sha256:"
Key = tuple[str, int, int]  # job, step, number


def lacking(job: Job, self_id: str) -> list[Part]:
    """The parts that this peer has to fetch, of the checkpoint that the job will begin from."""
    made = job.checkpoint
    if made is None or self_id not in job.assigned or not _needs_it(job):
        return []
    fetchers = sorted(job.assigned)
    return [
        next(part for part in made.parts if part.number == number)
        for number, held in made.holders.items()
        if not set(held) & set(fetchers) and fetchers[number % len(fetchers)] == self_id
    ]


def _needs_it(job: Job) -> bool:
    """Whether no trainer has made a step, or the job waits without a ring that could have."""
    if job.is_final or job.state == "paused":
        return False
    fresh = all(made.start_step is None for made in job.generations)
    waits = job.generation is not None and job.generation.closed
    return (fresh and job.origin is not None) or (job.state == "recovering" and waits)


class CheckpointCopies:
    """Carries `lacking` out; `act` is cheap to repeat."""

    def __init__(
        self, me: str, content: Content, fetching: Fetching, shelf: Shelf, desk: TrainerDesk
    ) -> None:
        self._me, self._content, self._fetching = me, content, fetching
        self._shelf, self._desk = shelf, desk
        self._offered: set[str] = set()
        self._made: dict[Key, Mapping[str, Any]] = {}
        self._agreed: set[Key] = set()  # of these, what the log had at some time
        self._jobs: object = None
        self._services: object = None

    def act(self, state: State) -> None:
        wanted = [(job, part) for job in state.jobs.values() for part in lacking(job, self._me)]
        if state.jobs is not self._jobs or state.services is not self._services:
            self._jobs, self._services = state.jobs, state.services
            self._offer(state, {_sha256(part) for _, part in wanted})
            self._agreed |= {key for key in self._made if self._holds(state, *key)}
        for job, part in wanted:
            assert job.checkpoint is not None
            self._have(state, job.id, job.checkpoint, part)

    def _holds(self, state: State, job: str, step: int, number: int) -> bool:
        found = state.jobs[job].checkpoints if job in state.jobs else ()
        return any(self._me in made.holders.get(number, ()) for made in found if made.step == step)

    def _have(self, state: State, job: str, made: Checkpoint, part: Part) -> None:
        key = job, made.step, part.number
        sha256 = _sha256(part)
        if key in self._agreed:  # and so it was struck off: it was damaged meanwhile
            self._agreed.discard(key)
            self._desk.forget_copy(job, self._made.pop(key))
        if key not in self._made and sha256:
            holders = made.holders[part.number]
            path = self._fetching.want(state, sha256, part.bytes, holders)
            if path is None:
                if self._fetching.wrong(sha256) >= set(holders):
                    self._desk.tell_unfetchable(job, _told(state, made, part.number))
                return
            name = name_of(made.step, part.number, made.count)
            kept = self._shelf.take_in(str(path), job, name, made.step)
            if kept != str(path):
                self._fetching.forget(sha256)
            self._made[key] = {
                "kind": "checkpoint",
                "generation": 0,
                "writers": 0,
                "step": made.step,
                "count": made.count,
                "state_hash": made.state_hash,
                "parts": [
                    {
                        "number": part.number,
                        "path": kept,
                        "bytes": part.bytes,
                        "seconds": 0.0,
                        "digest": part.digest,
                    }
                ],
            }
        if key in self._made:
            self._desk.tell_copy(job, self._made[key])

    def _offer(self, state: State, lacked: Set[str]) -> None:
        """Others may fetch what the log says is here.

        Not what one job lacks: then the copy that another job's list has here was found damaged,
        and offered, it would be taken for a good one again and again.
        """
        mine = {
            _sha256(part): part.path
            for job in state.jobs.values()
            for made in job.checkpoints
            for part in made.parts
            if part.peer == self._me and part.digest and _sha256(part) not in lacked
        }
        served = files_served(state, self._me)
        mine |= {file.sha256: file.path for file in served if file.sha256 not in lacked}
        for sha256 in self._offered - mine.keys():
            self._content.drop(sha256)
        for sha256 in mine.keys() - self._offered:
            self._content.offer(sha256, Path(mine[sha256]))
        self._offered = set(mine)


def _told(state: State, made: Checkpoint, number: int) -> dict[str, Any]:
    """No copy of this part is as it was written."""
    holders = made.holders[number]
    names = " and of ".join(state.members[p].name for p in holders if p in state.members)
    error = (
        f"the checkpoint of step {made.step} cannot be used: part {number + 1} of {names} is not "
        "what was written: it was damaged or changed"
    )
    return {"step": made.step, "error": error, "bad": [[number, peer] for peer in holders]}


def _sha256(part: Part) -> str:
    return part.digest.removeprefix(_PREFIX)
