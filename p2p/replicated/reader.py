"""Reads the replicated state back from the bytes that wire.py wrote, piece by piece."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import msgpack
from immutables import Map

from p2p.replicated.service import ModelFile, Replica, Revision, Service
from p2p.replicated.state import (
    Checkpoint,
    Dataset,
    Event,
    Generation,
    Job,
    Mark,
    Member,
    Notice,
    Part,
    Samples,
    Seat,
    Session,
    State,
    as_submitted,
)
from p2p.replicated.store import StoreBuilder
from p2p.replicated.wire import FORMAT, GENERATION, JOB, REVISION, SERVICE
from p2p.training.method import Method

# When one trainer wrote all of a checkpoint into one file, its record said everything.
_WHOLE_FIELDS = 6
# A record holds at most what one command brought, and that is at most 4 MiB.
_RECORD_BYTES_MAX = 8 * 1024 * 1024

Made = TypeVar("Made", Member, Seat, Mark, Part, Event, Dataset, Method, ModelFile, Replica)


class MalformedState(Exception):
    """Bytes that are not a state as this version writes it."""


def from_chunks(chunks: Iterable[bytes]) -> State:
    """Raises MalformedState, and nothing else."""
    reader = StateReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


class StateReader:
    """Reads a state chunk by chunk, so that a host can do something else between two of them."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=_RECORD_BYTES_MAX)
        self._bytes = 0
        self._count = 0
        self._draft: _Draft | None = None
        self._end: int | None = None  # where its last record ends, in bytes

    def feed(self, chunk: bytes) -> None:
        """Raises MalformedState."""
        self._bytes += len(chunk)
        try:
            self._unpacker.feed(chunk)
            for record in self._unpacker:
                self._take(record)
        except _MALFORMED as error:
            raise MalformedState(f"record {self._count + 1}: {error!r}") from error

    def finish(self) -> State:
        """The state. Raises MalformedState if it is not complete, or goes on after its end."""
        if self._draft is None or self._end is None:
            raise MalformedState(f"it breaks off after {self._count} records")
        if self._end != self._bytes:
            raise MalformedState("bytes follow its end")
        return self._draft.state()

    def _take(self, record: Any) -> None:
        if not isinstance(record, list) or self._end is not None:
            raise ValueError("not a record, or one after the end")
        kind, *values = record
        if self._draft is None:
            if kind != "state":
                raise ValueError("not the beginning of a state")
            self._draft = _Draft(_head(*values))
        elif kind == "end":
            if values != [self._count]:
                raise ValueError(f"{self._count} records, and the end says {values}")
            self._end = self._unpacker.tell()
        else:
            _READ[kind](self._draft, *values)
        self._count += 1


@dataclass(slots=True)
class _JobDraft:
    job: Job
    generations: list[tuple[Generation, list[Seat]]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    ledger: list[Any] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def made(self) -> Job:
        return replace(
            self.job,
            generations=tuple(
                replace(generation, seats=tuple(seats)) for generation, seats in self.generations
            ),
            marks=tuple(self.marks),
            ledger=tuple(self.ledger),
            checkpoints=tuple(self.checkpoints),
        )


@dataclass(slots=True)
class _Draft:
    """A state of which some records were read."""

    head: State
    members: dict[str, Member] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    jobs: dict[str, _JobDraft] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    sessions: dict[str, tuple[Session, dict[int, Any]]] = field(default_factory=dict)
    store: StoreBuilder = field(default_factory=StoreBuilder)

    def state(self) -> State:
        return replace(
            self.head,
            members=self.members,
            removed=frozenset(self.removed),
            jobs={id_: draft.made() for id_, draft in self.jobs.items()},
            events=tuple(self.events),
            datasets=self.datasets,
            services=self.services,
            acknowledged=self.acknowledged,
            sessions=Map(
                {
                    id_: replace(session, answers=Map(answers))
                    for id_, (session, answers) in self.sessions.items()
                }
            ),
            store=self.store.store(),
        )

    def add_member(self, *values: Any) -> None:
        member = _made(Member, values)
        _add(self.members, member.id, member)

    def add_removed(self, id_: Any) -> None:
        self.removed.add(_text(id_))

    def add_job(self, *values: Any) -> None:
        *named, failed_checkpoint, assigned = values
        job = Job(
            **dict(zip(JOB, named, strict=True)),
            failed_checkpoint=failed_checkpoint,
            assigned=tuple(assigned),
        )
        _add(self.jobs, job.id, _JobDraft(job))

    def add_generation(self, *values: Any) -> None:
        job = self.last_job
        method = as_submitted(job.job.spec)
        made = Generation(**dict(zip(GENERATION, values, strict=True)), seats=(), method=method)
        job.generations.append((made, []))

    def add_set(self, *values: Any) -> None:
        job = self.last_job
        job.job = replace(job.job, was_set=_made(Method, values))

    def add_crashed(self, children: Any) -> None:
        job = self.last_job
        job.job = replace(job.job, crashed=_children(children))

    def add_samples(self, epoch: Any, step: Any) -> None:
        job = self.last_job
        job.job = replace(job.job, samples=Samples(_number(epoch), _number(step)))

    def add_method(self, *values: Any) -> None:
        self._change_generation(method=_made(Method, values))

    def add_reached(self, step: Any) -> None:
        self._change_generation(reached=_number(step))

    def _change_generation(self, **fields: Any) -> None:
        made, seats = self.last_job.generations.pop()
        self.last_job.generations.append((replace(made, **fields), seats))

    def add_seat(self, *values: Any) -> None:
        self.last_job.generations[-1][1].append(_made(Seat, values))

    def add_mark(self, *values: Any) -> None:
        self.last_job.marks.append(_made(Mark, values))

    def add_notice(self, text: Any, peer: Any) -> None:
        job = self.last_job
        notice = Notice(_text(text), None if peer is None else _text(peer))
        job.job = replace(job.job, notices=(*job.job.notices, notice))

    def add_ledger(self, row: Any) -> None:
        self.last_job.ledger.append(row)

    def add_asks(self, number: Any, is_open: Any) -> None:
        job = self.last_job
        job.job = replace(job.job, asks=_number(number), asked=bool(is_open))

    def add_origin(self, origin: Any, step: Any) -> None:
        job = self.last_job
        job.job = replace(job.job, origin=(_text(origin), _number(step)))

    def add_checkpoint(self, *values: Any) -> None:
        if len(values) == _WHOLE_FIELDS:
            step, peer, path, size_bytes, seconds, state_hash = values
            parts: tuple[Part, ...] = (Part(0, peer, path, size_bytes, seconds, ""),)
            count = 1
        else:
            step, state_hash, count = values
            parts = ()
        made = Checkpoint(_number(step), _text(state_hash), _number(count), parts)
        self.last_job.checkpoints.append(made)

    def add_part(self, *values: Any) -> None:
        checkpoints = self.last_job.checkpoints
        made = checkpoints.pop()
        checkpoints.append(replace(made, parts=(*made.parts, _made(Part, values))))

    def add_event(self, *values: Any) -> None:
        self.events.append(_made(Event, values))

    def add_dataset(self, *values: Any) -> None:
        dataset = _made(Dataset, values)
        _add(self.datasets, dataset.name, dataset)

    def add_service(self, *values: Any) -> None:
        made = Service(**dict(zip(SERVICE, values, strict=True)))
        _add(self.services, made.id, made)

    def add_replicas_crashed(self, children: Any) -> None:
        self._change_service(crashed=_children(children))

    def add_revision(self, *values: Any) -> None:
        revision = Revision(**dict(zip(REVISION, values, strict=True)))
        self._change_service(revision=revision)

    def add_file(self, *values: Any) -> None:
        revision = self.last_service.revision
        files = (*revision.files, _made(ModelFile, values))
        self._change_service(revision=replace(revision, files=files))

    def add_replica(self, *values: Any) -> None:
        told = values if len(values) > 3 else (*values, "")  # an older version had no digest
        self._change_service(replicas=(*self.last_service.replicas, _made(Replica, told)))

    def add_acknowledged(self, alert: Any, at_s: Any) -> None:
        _add(self.acknowledged, alert, float(at_s))

    def add_session(self, id_: Any, used: Any, unseen_from: Any) -> None:
        _add(self.sessions, id_, (Session(_number(used), _number(unseen_from)), {}))

    def add_answer(self, serial: Any, answer: Any) -> None:
        if not isinstance(answer, dict):
            raise ValueError("an answer is no map")
        if not self.sessions:
            raise ValueError("an answer before any session")
        self.sessions[next(reversed(self.sessions))][1][_number(serial)] = answer

    def add_value(self, key: Any, value: Any) -> None:
        self.store.add(key, value)

    @property
    def last_service(self) -> Service:
        if not self.services:
            raise ValueError("a part of a service before any service")
        return self.services[next(reversed(self.services))]

    def _change_service(self, **changes: Any) -> None:
        service = self.last_service
        self.services[service.id] = replace(service, **changes)

    @property
    def last_job(self) -> _JobDraft:
        if not self.jobs:
            raise ValueError("a part of a job before any job")
        return self.jobs[next(reversed(self.jobs))]


_READ: dict[str, Callable[..., None]] = {
    name.removeprefix("add_"): getattr(_Draft, name)
    for name in vars(_Draft)
    if name.startswith("add_")
}


def _children(crashed: Any) -> dict[str, str]:
    if not isinstance(crashed, dict):
        raise ValueError("the children that crashed are no map")
    return crashed


def _head(format_: Any, cluster_id: Any, name: Any, turn: Any) -> State:
    if format_ != FORMAT:
        raise ValueError(f"format {format_!r}, this version reads {FORMAT}")
    return State(cluster_id=_text(cluster_id), name=_text(name), turn=_number(turn))


_KINDS = (Member, Seat, Mark, Part, Event, Dataset, Method, ModelFile, Replica)
_WIDTHS = {kind: len(fields(kind)) for kind in _KINDS}


def _made(kind: type[Made], values: tuple[Any, ...]) -> Made:
    if len(values) != _WIDTHS[kind]:
        raise ValueError(f"{len(values)} fields for a {kind.__name__}")
    return kind(*values)


def _add(to: dict[str, Any], key: Any, value: Any) -> None:
    if _text(key) in to:
        raise ValueError(f"{key!r} comes twice")
    to[key] = value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


_MALFORMED = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    *(msgpack.UnpackException, MemoryError),
)
