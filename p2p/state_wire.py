"""The replicated state as bytes, for snapshots: written and read piece by piece.

A stream of msgpack arrays [kind, field, …], cut into chunks wherever a chunk is full:

    state FORMAT cluster_id name turn
    member …, removed id                             in the order in which the state has them
    job …, and after each: generation … (after each: seat …), mark …, ledger row, checkpoint …
    event …
    session id used unseen_from, and after each: answer number answer
    value key bytes                                  the store, in its own order
    end                                              how many came before

Equal states give equal bytes in every process. Nothing is nested deeper here than in the command
that brought it into the log, so that whatever was agreed can be written. What a snapshot's bytes
are checked against damage with is the business of whoever keeps them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, TypeVar

import msgpack
from immutables import Map

from p2p.state import Checkpoint, Event, Generation, Job, Mark, Member, Seat, Session, State
from p2p.store import StoreBuilder

FORMAT = 1
CHUNK_BYTES = 64 * 1024
# A record holds at most what one command brought, and that is at most 4 MiB.
_RECORD_BYTES_MAX = 8 * 1024 * 1024

Record = tuple[Any, ...]
Made = TypeVar("Made", Member, Seat, Mark, Checkpoint, Event)


class MalformedState(Exception):
    """Bytes that are not a state as this version writes it."""


# -- writing -------------------------------------------------------------------------------------


def to_chunks(state: State) -> Iterator[bytes]:
    """Chunks of CHUNK_BYTES, the last one shorter; each is made when it is asked for (about 1 ms)
    while the state goes on: it is a picture of the state that was given.
    """
    pack = msgpack.Packer(autoreset=True).pack
    waiting = bytearray()
    count = 0
    for count, record in enumerate(_records(state), 1):  # noqa: B007 - used after the loop
        waiting += pack(record)
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    yield bytes(waiting + pack(("end", count)))


def _fields_of(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(each.name for each in fields(kind)))


_member, _seat, _mark, _checkpoint, _event = map(
    _fields_of, (Member, Seat, Mark, Checkpoint, Event)
)
_GENERATION = ("number", "reason", "start_step", "stall_s", "steps_repeated", "closed")
_JOB = ("id", "name", "spec", "state", "reason", "excluded", "steps_total")
_generation = attrgetter(*_GENERATION)
_job = attrgetter(*_JOB)


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
    for id_, session in sorted(state.sessions.items()):
        yield ("session", id_, session.used, session.unseen_from)
        for serial, answer in sorted(session.answers.items()):
            yield ("answer", serial, answer)
    for key, value in state.store.items():
        yield ("value", key, value)


def _job_records(job: Job) -> Iterator[Record]:
    yield ("job", *_job(job), job.failed_checkpoint, job.assigned)
    for generation in job.generations:
        yield ("generation", *_generation(generation))
        for seat in generation.seats:
            yield ("seat", *_seat(seat))
    for mark in job.marks:
        yield ("mark", *_mark(mark))
    for row in job.ledger:
        yield ("ledger", row)
    for checkpoint in job.checkpoints:
        yield ("checkpoint", *_checkpoint(checkpoint))


# -- reading -------------------------------------------------------------------------------------


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
    sessions: dict[str, tuple[Session, dict[int, Any]]] = field(default_factory=dict)
    store: StoreBuilder = field(default_factory=StoreBuilder)

    def state(self) -> State:
        return replace(
            self.head,
            members=self.members,
            removed=frozenset(self.removed),
            jobs={id_: draft.made() for id_, draft in self.jobs.items()},
            events=tuple(self.events),
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
            **dict(zip(_JOB, named, strict=True)),
            failed_checkpoint=failed_checkpoint,
            assigned=tuple(assigned),
        )
        _add(self.jobs, job.id, _JobDraft(job))

    def add_generation(self, *values: Any) -> None:
        made = Generation(**dict(zip(_GENERATION, values, strict=True)), seats=())
        self.last_job.generations.append((made, []))

    def add_seat(self, *values: Any) -> None:
        self.last_job.generations[-1][1].append(_made(Seat, values))

    def add_mark(self, *values: Any) -> None:
        self.last_job.marks.append(_made(Mark, values))

    def add_ledger(self, row: Any) -> None:
        self.last_job.ledger.append(row)

    def add_checkpoint(self, *values: Any) -> None:
        self.last_job.checkpoints.append(_made(Checkpoint, values))

    def add_event(self, *values: Any) -> None:
        self.events.append(_made(Event, values))

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
    def last_job(self) -> _JobDraft:
        if not self.jobs:
            raise ValueError("a part of a job before any job")
        return self.jobs[next(reversed(self.jobs))]


_READ: dict[str, Callable[..., None]] = {
    name.removeprefix("add_"): getattr(_Draft, name)
    for name in vars(_Draft)
    if name.startswith("add_")
}


def _head(format_: Any, cluster_id: Any, name: Any, turn: Any) -> State:
    if format_ != FORMAT:
        raise ValueError(f"format {format_!r}, this version reads {FORMAT}")
    return State(cluster_id=_text(cluster_id), name=_text(name), turn=_number(turn))


_WIDTHS = {kind: len(fields(kind)) for kind in (Member, Seat, Mark, Checkpoint, Event)}


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
