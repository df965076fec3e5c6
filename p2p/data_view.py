"""The JSON of `p2pnode data`: datasets, and who has which samples of a job's step. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p.errors import P2PError
from p2p.replicated.state import Dataset, Job, State
from p2p.view import SCHEMA, Vitals, job_summary


def datasets(state: State, standing: Mapping[str, str]) -> dict[str, Any]:
    """All that are known, by name; `standing` is what the peer that is asked has of each."""
    rows = [
        _dataset(state.datasets[name], state, standing.get(name, "absent"))
        for name in sorted(state.datasets)
    ]
    return {"schema": SCHEMA, "datasets": rows}


def _dataset(told: Dataset, state: State, standing: str) -> dict[str, Any]:
    registrar = state.members.get(told.peer)
    return {
        "name": told.name,
        "format": told.format,
        "samples": told.samples,
        "bytes": told.bytes,
        "files": told.files,
        "schema": dict(told.schema),
        "content": f"sha256:{told.manifest}",
        "path": told.where,
        "peer": told.peer,
        "address": registrar.address if registrar else None,
        "registered_at": told.at_s,
        "here": standing,
    }


def shards(state: State, job: Job, vitals: Mapping[str, Vitals]) -> dict[str, Any]:
    """Who computes which samples of the current step: [first, last) of the epoch's order, which is
    a permutation made of the job's seed and the epoch. Raises P2PError before a trainer is ready.
    """
    generation, samples = job.generation, job.samples
    if generation is None or samples is None or not samples.step:
        raise P2PError(f"{job.name} has no shards yet: it is {job.state}")
    told = job_summary(job, vitals)
    step = min(int(told["step"]), max((job.steps_total or 1) - 1, 0))
    per_epoch = -(-samples.epoch // samples.step)
    first = step % per_epoch * samples.step
    count = min(samples.step, samples.epoch - first)
    total = int(job.spec["shards"])
    rows = [
        {
            "peer": seat.peer,
            "name": state.members[seat.peer].name if seat.peer in state.members else None,
            "shards": [seat.first_shard, seat.last_shard],
            "samples": [first + count * at // total for at in (seat.first_shard, seat.last_shard)],
        }
        for seat in sorted(generation.seats, key=lambda seat: seat.peer)
    ]
    return {
        "schema": SCHEMA,
        "job": job.id,
        "state": job.state,
        "generation": generation.number,
        "step": step,
        "epoch": step // per_epoch + 1,
        "shards": total,
        "train_samples": samples.epoch,
        "global_batch": samples.step,
        "samples": [first, first + count],
        "peers": rows,
    }
