"""The replicated state as bytes, for snapshots: written piece by piece; reader.py reads it.

A stream of msgpack arrays [kind, field, …], cut into chunks wherever a chunk is full:

    state FORMAT cluster_id name turn
    member …, removed id                             in the order in which the state has them
    job …, and after each: set method …, samples epoch step, crashed child by peer,
        asks number open, origin job step, generation … (after each: method …, seat …), mark …,
        notice …, ledger row, checkpoint … (after each: part …)
                                        method and set: only where it is not as it was submitted;
                                        what crashed, asks, origin: only if there is any
    event …
    dataset …
    service …, and after each: replicas_crashed child by peer, revision …, file …, replica …
    acknowledged alert at                            only if there is any
    session id used unseen_from, and after each: answer number answer
    value key bytes                                  the store, in its own order
    end                                              how many came before

Equal states give equal bytes in every process. Nothing is nested deeper here than in the command
that brought it into the log, so that whatever was agreed can be written. What a snapshot's bytes
are checked against damage with is the business of whoever keeps them.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any

import msgpack

from p2p.replicated.service import ModelFile, Replica, Service
from p2p.replicated.state import Dataset, Event, Job, Mark, Member, Part, Seat, State
from p2p.training.method import Method

FORMAT = 1
CHUNK_BYTES = 64 * 1024

Record = tuple[Any, ...]


def to_chunks(state: State) -> Iterator[bytes]:
    """Chunks of CHUNK_BYTES, the last one shorter; each is made when it is asked for (about 1 ms)
    while the state goes on: it is a picture of the state that was given.
    """
    pack = msgpack.Packer(autoreset=True).pack
    waiting = bytearray()
    count = 0
    for record in _records(state):
        count += 1
        waiting += pack(record)
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    yield bytes(waiting + pack(("end", count)))


def _fields_of(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(each.name for each in fields(kind)))


_member, _seat, _mark, _part, _event, _dataset, _method = map(
    _fields_of, (Member, Seat, Mark, Part, Event, Dataset, Method)
)
GENERATION = ("number", "reason", "start_step", "stall_s", "steps_repeated", "closed")
SERVICE = tuple(each.name for each in fields(Service))[:-3]  # the rest has records of its own
REVISION = ("number", "step", "state_hash")
JOB = ("id", "name", "spec", "state", "reason", "excluded", "steps_total")
_generation = attrgetter(*GENERATION)
_job = attrgetter(*JOB)
_service = attrgetter(*SERVICE)
_revision = attrgetter(*REVISION)
_file, _replica = map(_fields_of, (ModelFile, Replica))


def _records(state: State) -> Iterator[Record]:
    yield ("state", FORMAT, state.cluster_id, state.name, state.turn)
    for member in state.members.values():
        yield ("member", *_member(member))
    for removed in sorted(state.removed):
        yield ("removed", removed)
    for job in state.jobs.values():
        yield from _job_records(job)
    for event in state.events:
        yield ("event", *_event(event))
    for dataset in state.datasets.values():
        yield ("dataset", *_dataset(dataset))
    for service in state.services.values():
        yield ("service", *_service(service))
        if service.crashed:
            yield ("replicas_crashed", service.crashed)
        yield ("revision", *_revision(service.revision))
        yield from (("file", *_file(file)) for file in service.revision.files)
        yield from (("replica", *_replica(replica)) for replica in service.replicas)
    for alert, at_s in state.acknowledged.items():
        yield ("acknowledged", alert, at_s)
    for id_, session in sorted(state.sessions.items()):
        yield ("session", id_, session.used, session.unseen_from)
        for serial, answer in sorted(session.answers.items()):
            yield ("answer", serial, answer)
    for key, value in state.store.items():
        yield ("value", key, value)


def _job_records(job: Job) -> Iterator[Record]:
    yield ("job", *_job(job), job.failed_checkpoint, job.assigned)
    if job.was_set is not None:
        yield ("set", *_method(job.was_set))
    if job.crashed:
        yield ("crashed", job.crashed)
    if job.asks:
        yield ("asks", job.asks, job.asked)
    if job.origin is not None:
        yield ("origin", *job.origin)
    if job.samples is not None:
        yield ("samples", job.samples.epoch, job.samples.step)
    for generation in job.generations:
        yield ("generation", *_generation(generation))
        if generation.method.revision:
            yield ("method", *_method(generation.method))
        if generation.reached:
            yield ("reached", generation.reached)
        for seat in generation.seats:
            yield ("seat", *_seat(seat))
    for mark in job.marks:
        yield ("mark", *_mark(mark))
    for notice in job.notices:
        yield ("notice", notice.text, notice.peer)
    for row in job.ledger:
        yield ("ledger", row)
    for checkpoint in job.checkpoints:
        yield ("checkpoint", checkpoint.step, checkpoint.state_hash, checkpoint.count)
        for part in checkpoint.parts:
            yield ("part", *_part(part))
