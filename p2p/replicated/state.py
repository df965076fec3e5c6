"""The replicated state: plain frozen records, the same on every peer at the same log index.

Records are never changed in place: `apply` makes new ones. Nothing here knows of time, sockets or
disks; times are what the proposing leader wrote into the command.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal

from immutables import Map

from p2p.replicated.job_states import FINAL, JobState
from p2p.replicated.service import Service
from p2p.replicated.store import Store
from p2p.training.method import Method, submitted
from p2p.wire.addresses import is_address

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")  # of events, the mildest first
MemberState = Literal["alive", "dead", "left"]
EVENTS_MAX = 1_000
HISTORY_POINTS_MAX = 1_000
# What is kept of a job, the newest: else snapshots and `p2pnode job` would grow for ever.
GENERATIONS_MAX = 1_000
CHECKPOINTS_KEPT = 3  # the newest, of a job that says nothing else
CHECKPOINTS_KEPT_MAX = 1_000
LEDGER_ROWS_MAX = 10_000
FINAL_JOBS_MAX = 200
TASK_BYTES_MAX = 32 << 20  # of the files of all jobs' tasks: every snapshot has them
DATASETS_MAX = 1_000
SLOTS_MAX = 1_024
REPLACES_MAX = 16  # former ids of one peer, each given up with a damaged log
ACKNOWLEDGED_MAX = 200  # alerts that somebody has seen
TEXT_MAX = 300  # characters of a name and the like: they are in every event and status


@dataclass(frozen=True, slots=True)
class Member:
    """A peer of the cluster. `address` is HOST:PORT of its control socket."""

    id: str
    name: str
    address: str
    host: str
    pid: int
    slots: int
    version: str
    incarnation: str
    state: MemberState = "alive"


_MEMBER_FIELDS: dict[str, type] = {
    **dict.fromkeys(("id", "name", "address", "host", "version", "incarnation"), str),
    **dict.fromkeys(("pid", "slots"), int),
}


def parse_member(fields: Mapping[str, Any]) -> Member:
    """A member as it describes itself. Raises ValueError, naming what is missing or mis-typed."""
    wrong = sorted(set(fields) ^ set(_MEMBER_FIELDS), key=str)
    wrong += [name for name, kind in _MEMBER_FIELDS.items() if type(fields.get(name)) is not kind]
    if wrong:
        raise ValueError(f"a member's {wrong[0]} is missing or wrong")
    texts = [value for value in fields.values() if isinstance(value, str)]
    if (
        not fields["id"]
        or max(map(len, texts)) > TEXT_MAX
        or not 0 <= fields["slots"] <= SLOTS_MAX
        or not is_address(fields["address"])
    ):
        raise ValueError("a member's id, slots or address is out of range, or a text is too long")
    return Member(**fields)


@dataclass(frozen=True, slots=True)
class Seat:
    """One trainer's place in a generation: shards [first, last) of every global batch."""

    peer: str
    child: str
    endpoints: Mapping[str, Any]
    first_shard: int
    last_shard: int


@dataclass(frozen=True, slots=True)
class Generation:
    """One agreed membership of a job, and by which method its trainers exchange. `start_step` is
    None until its first step was applied. `reached` = the newest step that it is known to
    have made, or before its first what those before it had, if no trainer of theirs can say so.

    A closed generation (the job was paused) needs a successor before anybody steps again.
    """

    number: int
    seats: tuple[Seat, ...]
    reason: str
    method: Method
    start_step: int | None = None
    stall_s: float | None = None
    steps_repeated: int = 0
    closed: bool = False
    reached: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """Proof of parity: every trainer of the generation had `state_hash` after `step`."""

    step: int
    epoch: int
    samples: int
    loss: float | None
    metrics: Mapping[str, float]
    samples_per_second: float
    state_hash: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a checkpoint, on the disk of `peer`. Several peers may have the same `number`.

    `digest` = what its bytes are checked against ("" of what older versions wrote).
    """

    number: int
    peer: str
    path: str
    bytes: int
    seconds: float
    digest: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the job on disk: `count` parts, from 0, each at least once among `parts`.

    Numbers from `count` on: what belongs to one trainer's shards alone; training can go on without.
    """

    step: int
    state_hash: str
    count: int
    parts: tuple[Part, ...]

    @property
    def holders(self) -> dict[int, tuple[str, ...]]:
        """By number the peers that have this part."""
        numbers = dict.fromkeys((*range(self.count), *(part.number for part in self.parts)))
        return {
            number: tuple(part.peer for part in self.parts if part.number == number)
            for number in numbers
        }

    def is_within(self, peers: Container[str]) -> bool:
        """Whether these peers have all of it that is needed."""
        held = self.holders
        return all(any(peer in peers for peer in held[n]) for n in range(self.count))


@dataclass(frozen=True, slots=True)
class Notice:
    """What a job's trainers say people should know as long as it holds; of one peer, or of all."""

    text: str
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """How many of them an epoch has, and a step (the last of an epoch may have fewer)."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    name: str
    spec: Mapping[str, Any]
    state: JobState = "queued"
    reason: str = ""
    # The peers whose agents keep a trainer for this job, and those set aside with the reason.
    assigned: tuple[str, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    steps_total: int | None = None
    samples: Samples | None = None  # of an epoch and of a step, once a trainer has said so
    generations: tuple[Generation, ...] = ()
    marks: tuple[Mark, ...] = ()
    ledger: tuple[Mapping[str, int], ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    failed_checkpoint: int | None = None  # the last step whose checkpoint could not be written
    asks: int = 0  # how often somebody asked for a checkpoint, and whether it is still to come
    asked: bool = False
    origin: tuple[str, int] | None = None  # the job and step whose checkpoint it begins from
    notices: tuple[Notice, ...] = ()  # as of the last mark
    crashed: Mapping[str, str] = field(default_factory=dict)  # by peer, the last trainer told of
    was_set: Method | None = None  # what `p2pnode set` made of the method since it was submitted

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def method(self) -> Method:
        """How the next generation's trainers shall exchange."""
        return self.was_set or as_submitted(self.spec)

    @property
    def generation(self) -> Generation | None:
        return self.generations[-1] if self.generations else None

    @property
    def mark(self) -> Mark | None:
        return self.marks[-1] if self.marks else None

    @property
    def members(self) -> tuple[str, ...]:
        """The peers whose trainers are in the newest generation."""
        return tuple(seat.peer for seat in self.generation.seats) if self.generation else ()

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


def as_submitted(spec: Mapping[str, Any]) -> Method:
    return submitted(spec["strategy"], spec["codec"], spec.get("options"))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data that jobs may name. `manifest` is the SHA-256 of what p2p.datasets.manifest says of its
    files. `where`: the path at which every peer looks for its own copy, or builtin:NAME. `samples`
    is None where only the task knows. `peer` registered it, and had it then.
    """

    name: str
    manifest: str
    manifest_bytes: int
    where: str
    format: str
    files: int
    bytes: int
    samples: int | None
    schema: Mapping[str, Any]
    peer: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Event:
    index: int
    at_s: float
    kind: str
    severity: Severity
    text: str
    peer: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a client of apply_sessions was answered and may not have seen yet, by number."""

    used: int
    unseen_from: int = 0
    answers: Map[int, Mapping[str, Any]] = field(default_factory=Map)


@dataclass(frozen=True, slots=True)
class State:
    cluster_id: str = ""
    name: str = ""
    members: Mapping[str, Member] = field(default_factory=dict)
    # Never tidied: any of them may come back, at any time, and must be refused. An id costs 110
    # bytes in memory and 22 in a snapshot: 10,000 peers that left come to about 1 MB.
    removed: frozenset[str] = frozenset()
    jobs: Mapping[str, Job] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    datasets: Mapping[str, Dataset] = field(default_factory=dict)  # by name
    services: Mapping[str, Service] = field(default_factory=dict)
    # By an alert's id when somebody said that it was seen; until it is resolved.
    acknowledged: Mapping[str, float] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    sessions: Map[str, Session] = field(default_factory=Map)
    turn: int = 0  # commands of sessions so far: the order in which sessions were used

    def having(
        self,
        store: Store | None = None,
        sessions: Map[str, Session] | None = None,
        turn: int | None = None,
    ) -> "State":
        """With what nearly every command of a client changes: dataclasses.replace, but quicker."""
        values: tuple[Any, ...] = (
            *_THE_REST(self),
            self.store if store is None else store,
            self.sessions if sessions is None else sessions,
            self.turn if turn is None else turn,
        )
        return State(*values)


_THE_REST = attrgetter(*(each.name for each in fields(State)[:-3]))
