"""The JSON of the contract (DESIGN §7), made from the replicated state and what was observed.

Pure, so that every peer shows the same at the same log index. Lists are sorted by id; times are
seconds, sizes bytes, rates per second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from p2p.errors import Usage
from p2p.find import find_job, find_member
from p2p.replicated.job_states import FINAL
from p2p.replicated.service import Service
from p2p.replicated.state import SEVERITIES, Checkpoint, Generation, Job, Member, State

SCHEMA = 1
# What `p2pnode job JOB --json` has, and nothing else; a summary is what `status` shows of a job.
SUMMARY_KEYS = (
    *("id", "name", "kind", "task", "state", "reason", "generation", "step", "steps_total"),
    *("epoch", "samples", "loss", "metrics", "samples_per_second", "members", "shards"),
    *("strategy", "codec", "state_hash"),
)
LIST_KEYS = {
    "generations": (
        *("number", "members", "start_step", "reason", "stall_seconds", "steps_repeated"),
    ),
    "ledger": ("epoch", "samples", "distinct", "repeated", "missing"),
    "checkpoints": ("step", "path", "bytes", "seconds", "state_hash"),
}


@dataclass(frozen=True, slots=True)
class RaftView:
    """What this peer knows of the agreement itself."""

    self_id: str
    term: int
    leader: str | None
    quorum: bool
    commit_index: int
    applied_index: int
    voters: frozenset[str]
    age_s: float


@dataclass(frozen=True, slots=True)
class Vitals:
    """A peer's own measurements, as last heard; `suspect` if it has been silent."""

    rss: int = 0
    cpu_percent: float = 0.0
    suspect: bool = False
    trainers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # progress by job
    device: str = "cpu"  # cpu | cuda
    gpus: tuple[Mapping[str, Any], ...] = ()  # see p2p.devices.gpus.Gpu
    figures: Mapping[str, float] = field(default_factory=dict)  # see p2p.measure.catalog


def status(state: State, raft: RaftView, vitals: Mapping[str, Vitals]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "view_from": raft.self_id,
        "age": round(raft.age_s, 3),
        "cluster": {
            "id": state.cluster_id,
            "name": state.name,
            "term": raft.term,
            "leader": raft.leader,
            "quorum": raft.quorum,
            "commit_index": raft.commit_index,
            "applied_index": raft.applied_index,
        },
        "peers": peers(state, raft, vitals),
        "jobs": jobs(state, vitals),
    }


def peers(state: State, raft: RaftView, vitals: Mapping[str, Vitals]) -> list[dict[str, Any]]:
    return [
        _peer(member, state, raft, vitals.get(member.id, Vitals()))
        for member in sorted(state.members.values(), key=lambda member: member.id)
    ]


def _peer(member: Member, state: State, raft: RaftView, vitals: Vitals) -> dict[str, Any]:
    role = "voter" if member.id in raft.voters else "learner"
    shown = "suspect" if member.state == "alive" and vitals.suspect else member.state
    running = [job for job in state.jobs.values() if member.id in job.members and not job.is_final]
    served = state.services.values()
    gone = member.state != "alive"
    return {
        "id": member.id,
        "name": member.name,
        "address": member.address,
        "host": member.host,
        "pid": member.pid,
        "role": "leader" if member.id == raft.leader else role,
        "state": shown,
        "slots": member.slots,
        "trainers": 0 if gone else len(running),
        "replicas": 0 if gone else sum(member.id in told.members for told in served),
        "rss": 0 if gone else vitals.rss,
        "cpu_percent": 0.0 if gone else vitals.cpu_percent,
        "version": member.version,
    }


def with_devices(told: list[dict[str, Any]], vitals: Mapping[str, Vitals]) -> list[dict[str, Any]]:
    """`peers`, and on what each one's trainers compute: more than `status` shows."""
    rows = []
    for peer in told:
        own = vitals.get(peer["id"], Vitals())
        gpus = [dict(gpu) for gpu in own.gpus] if peer["state"] in ("alive", "suspect") else []
        rows.append({**peer, "device": own.device, "gpus": gpus})
    return rows


def jobs(state: State, vitals: Mapping[str, Vitals]) -> list[dict[str, Any]]:
    trained = [job_summary(job, vitals) for job in state.jobs.values()]
    served = [service_summary(service) for service in state.services.values()]
    return sorted([*trained, *served], key=lambda told: str(told["id"]))


def job_summary(job: Job, vitals: Mapping[str, Vitals]) -> dict[str, Any]:
    """One job as `status` shows it: agreed marks, and the newest progress between them."""
    mark = job.mark
    generation = job.generation
    method = generation.method if generation else job.method
    progress = _progress(job, vitals)
    running = job.state == "running"
    metrics = [made.metrics for made in job.marks if made.metrics]
    return {
        "id": job.id,
        "name": job.name,
        "kind": "train",
        "task": job.spec["task"],
        "state": job.state,
        "reason": job.reason,
        "generation": generation.number if generation else 0,
        "step": progress.get("step", mark.step if mark else 0),
        "steps_total": job.steps_total,
        "epoch": progress.get("epoch", mark.epoch if mark else 0),
        "samples": progress.get("samples", mark.samples if mark else 0),
        "loss": _finite(progress.get("loss", mark.loss if mark else None)),
        "metrics": dict(metrics[-1]) if metrics else {},
        "samples_per_second": (
            progress.get("samples_per_second", mark.samples_per_second if mark else 0.0)
            if running
            else 0.0
        ),
        "members": sorted(job.members),
        "shards": job.spec["shards"],
        "strategy": method.strategy,
        "codec": method.codec,
        "state_hash": mark.state_hash if mark else None,
    }


def service_summary(service: Service) -> dict[str, Any]:
    """A serve job with the keys of any job: its generation is the revision of its weights."""
    revision = service.revision
    return {
        "id": service.id,
        "name": service.name,
        "kind": "serve",
        "task": service.source,
        "state": service.state,
        "reason": service.reason,
        "generation": revision.number,
        "step": revision.step,
        "steps_total": None,
        "epoch": 0,
        "samples": 0,
        "loss": None,
        "metrics": {},
        "samples_per_second": 0.0,
        "members": sorted(service.members),
        "shards": 0,
        "strategy": "",
        "codec": "",
        "state_hash": revision.state_hash or None,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _progress(job: Job, vitals: Mapping[str, Vitals]) -> Mapping[str, Any]:
    """The farthest progress message, if it is ahead of the last mark."""
    best: Mapping[str, Any] = max(_told(job, vitals), key=_step, default={})
    return best if best and (job.mark is None or best["step"] > job.mark.step) else {}


def _step(told: Mapping[str, Any]) -> int:
    return int(told["step"])


def _traffic(job: Job, vitals: Mapping[str, Vitals]) -> dict[str, float | None]:
    """What a trainer gives to others per step, on average, and how many times less that is than
    float32 would be; None when none has said so."""
    said = [told for told in _told(job, vitals) if _finite(told.get("bytes_per_step")) is not None]
    per_step = sum(told["bytes_per_step"] for told in said) / len(said) if said else None
    plain = [
        told["compression"] * told["bytes_per_step"] for told in said if told.get("compression")
    ]
    return {
        "bytes_per_step": per_step,
        "compression": _finite(plain[0] / per_step) if plain and per_step else None,
    }


def _told(job: Job, vitals: Mapping[str, Vitals]) -> list[Mapping[str, Any]]:
    """The progress messages of the newest generation."""
    if job.state != "running" or job.generation is None:
        return []
    return [
        told.trainers[job.id]
        for told in vitals.values()
        if job.id in told.trainers
        and told.trainers[job.id].get("generation") == job.generation.number
    ]


def job_detail(job: Job, vitals: Mapping[str, Vitals]) -> dict[str, Any]:
    """All that is known of a job: more than the contract has."""
    return {
        "schema": SCHEMA,
        **job_summary(job, vitals),
        "options": dict(sorted(job.method.options.items())),
        "auto": job.method.auto,
        **_traffic(job, vitals),
        "assigned": sorted(job.assigned),
        "excluded": dict(sorted(job.excluded.items())),
        "notices": [asdict(notice) for notice in job.notices],
        "generations": [_generation(made) for made in job.generations],
        "ledger": [dict(row) for row in job.ledger],
        "checkpoints": [checkpoint(made) for made in job.checkpoints],
    }


def service_detail(service: Service) -> dict[str, Any]:
    """A serve job with what a train job has, as far as it has it."""
    return {
        "schema": SCHEMA,
        **service_summary(service),
        "options": {},
        "auto": False,
        "bytes_per_step": None,
        "compression": None,
        "assigned": sorted(service.assigned),
        "excluded": dict(sorted(service.excluded.items())),
        "notices": [],
        "generations": [],
        "ledger": [],
        "checkpoints": [],
    }


def job_contract(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Of a job's detail exactly what the contract has."""
    lists = {name: [_only(row, keys) for row in detail[name]] for name, keys in LIST_KEYS.items()}
    newest = max((row["number"] for row in lists["generations"]), default=0)
    for row in lists["generations"]:
        # Of the newest it may not be known yet; before the others stepped, nothing stood still that
        # the next one does not count.
        is_known = row["number"] == 1 or row["number"] < newest or detail["state"] in FINAL
        if row["stall_seconds"] is None and is_known:
            row["stall_seconds"] = 0.0
    return {"schema": SCHEMA, **job_progress(detail), **lists}


def job_progress(detail: Mapping[str, Any]) -> dict[str, Any]:
    """A job's detail without its lists: as `status` shows it."""
    return _only(detail, SUMMARY_KEYS)


def _only(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in keys}


def checkpoint(made: Checkpoint) -> dict[str, Any]:
    """`path` = the file, or the folder of the first of several, on `peer`; `bytes` without copies.

    `seconds` from the copy between two steps until the last part was durable.
    """
    first = made.parts[0]
    path = first.path if made.count == 1 else first.path.rpartition("/")[0]
    sizes = {part.number: part.bytes for part in made.parts}
    return {
        "step": made.step,
        "path": path,
        "bytes": sum(sizes.values()),
        "seconds": max(part.seconds for part in made.parts),
        "state_hash": made.state_hash,
        "count": made.count,
        "peer": first.peer,
        "parts": [asdict(part) for part in made.parts],
    }


def _generation(made: Generation) -> dict[str, Any]:
    return {
        "number": made.number,
        "members": [seat.peer for seat in made.seats],
        "start_step": made.start_step,
        "reason": made.reason,
        "strategy": made.method.strategy,
        "codec": made.method.codec,
        "stall_seconds": made.stall_s,
        "steps_repeated": made.steps_repeated,
    }


def history(job: Job) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "points": [
            {
                "step": mark.step,
                "epoch": mark.epoch,
                "loss": _finite(mark.loss),
                "accuracy": mark.metrics.get("accuracy"),
                "samples": mark.samples,
                "samples_per_second": mark.samples_per_second,
                "at": mark.at_s,
            }
            for mark in job.marks
        ],
    }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: with an index above `since`, at least as severe as `level`; of a peer and a job
    as people call them, or their ids; with `text` in theirs, whatever its case, or of that kind."""

    since: int = 0
    level: str = "info"
    peer: str | None = None
    job: str | None = None
    text: str | None = None


def events(state: State, wanted: Wanted) -> dict[str, Any]:
    """Raises Usage for a level, peer or job that there is not."""
    if wanted.level not in SEVERITIES:
        raise Usage(f"{wanted.level!r} is no level: there are {', '.join(SEVERITIES)}")
    levels = SEVERITIES[SEVERITIES.index(wanted.level) :]
    # Whoever was removed is still in the events.
    peers, jobs = {event.peer for event in state.events}, {event.job for event in state.events}
    peer, job = wanted.peer, wanted.job
    peer = find_member(state, peer).id if peer is not None and peer not in peers else peer
    job = find_job(state, job).id if job is not None and job not in jobs else job
    text = (wanted.text or "").casefold()
    return {
        "schema": SCHEMA,
        "events": [
            {
                "index": event.index,
                "at": event.at_s,
                "kind": event.kind,
                "severity": event.severity,
                "text": event.text,
                "peer": event.peer,
                "job": event.job,
            }
            for event in state.events
            if event.index > wanted.since
            and event.severity in levels
            and peer in (None, event.peer)
            and job in (None, event.job)
            and (text in event.text.casefold() or text == event.kind)
        ],
    }
