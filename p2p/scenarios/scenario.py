"""What a scenario is: records, read from a file (reading.py) and played by play.py. Pure.

A peer is meant by the name it was started with (a, b, c, … in that order), by a name that an
earlier step gave it (`called`), or as `leader` or `follower` of the moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from p2p.scenarios.checks import Check

PEERS_MAX = 9
WITHIN_S = 90.0  # a fresh peer on a busy machine takes half a minute to be of use


@dataclass(frozen=True, slots=True)
class Start:
    """More peers; they join the cluster. `slots`: trainers each offers (default: as p2pnode);
    `called` names the (only) new peer for later steps."""

    peers: int = 1
    slots: int | None = None
    called: str | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """A job. `settings` are the fields of the request (epochs, steps, peers_min, strategy, …);
    `undisturbed`: what differs from them in the run it is compared with (a smaller delay, say)."""

    job: str
    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    undisturbed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Until all that is given is so; the scenario fails if it is not within `within_s`.

    Of the job: its `state`, `share` of all steps done, `steps` more than now, number of `members`,
    `reason` contained in that of its newest generation, `strategy`. Of the cluster: `alive` peers,
    `voters` among them, `leads` (this peer), `not_leads` (another one). `event`: contained in one
    of the events, `insight`: in what the peers say would help.
    """

    job: str | None = None
    state: str | None = None
    share: float | None = None
    steps: int | None = None
    members: int | None = None
    reason: str | None = None
    strategy: str | None = None
    alive: int | None = None
    voters: int | None = None
    leads: str | None = None
    not_leads: str | None = None
    event: str | None = None
    insight: str | None = None
    within_s: float = WITHIN_S

    @property
    def awaits_steps(self) -> bool:
        """Whether the job has to go on to it, step by step: each gives it its time anew."""
        return self.state == "finished" or self.share is not None or self.steps is not None


@dataclass(frozen=True, slots=True)
class Fault:
    """A drill as of `p2pnode fault`. `called` names the (only) peer for later steps."""

    kind: str
    peers: tuple[str, ...]
    seconds: float | None = None
    called: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Ended peers come back at the same time, with what they have on their disks."""

    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    peer: str


@dataclass(frozen=True, slots=True)
class Transfer:
    peer: str


@dataclass(frozen=True, slots=True)
class Set:
    """As `p2pnode set JOB key=value …`."""

    job: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pause:
    job: str


@dataclass(frozen=True, slots=True)
class Resume:
    job: str


@dataclass(frozen=True, slots=True)
class Cancel:
    job: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Have the job saved now, and wait until the cluster agrees that it is."""

    job: str


@dataclass(frozen=True, slots=True)
class Restore:
    """A new job `into` from the oldest checkpoint that is kept of `job`; `settings` as of the
    request."""

    job: str
    into: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slow:
    """The peer's trainers run for this share of the time only; 1 = as before."""

    peer: str
    share: float


@dataclass(frozen=True, slots=True)
class Measure:
    """How many samples per second a job makes, over that many seconds, kept as `called`."""

    job: str
    called: str
    seconds: float = 4.0


@dataclass(frozen=True, slots=True)
class Write:
    """Put something into the agreed store, asking only the peer `through`. Whether it was taken is
    kept as `called`."""

    through: str
    key: str
    value: str
    called: str


@dataclass(frozen=True, slots=True)
class Read:
    """Get the agreed value, asking only the peer `through`; kept as `called`."""

    through: str
    key: str
    called: str


Action = (
    Start
    | Submit
    | Wait
    | Fault
    | Restart
    | Remove
    | Transfer
    | Set
    | Pause
    | Resume
    | Cancel
    | Checkpoint
    | Restore
    | Slow
    | Measure
    | Write
    | Read
)
# What a file says after `do`. A new kind of step: a record, a line here, a method in stage.py.
ACTIONS: dict[str, type[Any]] = {
    "start": Start,
    "submit": Submit,
    "wait": Wait,
    "fault": Fault,
    "restart": Restart,
    "remove": Remove,
    "transfer": Transfer,
    "set": Set,
    "pause": Pause,
    "resume": Resume,
    "cancel": Cancel,
    "checkpoint": Checkpoint,
    "restore": Restore,
    "slow": Slow,
    "measure": Measure,
    "write": Write,
    "read": Read,
}


@dataclass(frozen=True, slots=True)
class Step:
    """`says` what happens, `watch` what to look at, in the view of that name of p2ptui."""

    do: Action
    says: str
    watch: str = ""
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """`peers` are there at the beginning, each with `slots` (None: as p2pnode). `folder` is where
    its task files are looked for."""

    name: str
    why: str
    peers: int
    steps: tuple[Step, ...]
    must: tuple[Check, ...]
    slots: int | None = None
    folder: str = "."

    def with_peers(self, peers: int) -> "Scenario":
        """The same with so many at the beginning; where it waits for a number, that grows too."""
        more = peers - self.peers
        return replace(self, peers=peers, steps=tuple(_grown(step, more) for step in self.steps))


def _grown(step: Step, more: int) -> Step:
    action = step.do
    if not isinstance(action, Wait):
        return step
    members, alive = (None if n is None else n + more for n in (action.members, action.alive))
    return replace(step, do=replace(action, members=members, alive=alive))
