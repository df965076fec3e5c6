"""What a peer tells the leader about itself: its newest state, never a difference.

So a lost report costs nothing, and a repeated one is harmless. Bodies come from the network and
are checked here: a malformed one raises Malformed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from p2p.control.rebalancing import Pace, Paces
from p2p.measure.told import parse_figures
from p2p.replicated.apply_services import MODEL_FIELDS
from p2p.replicated.state import TEXT_MAX, parse_member
from p2p.wire.envelope import Malformed

REPORT_EVERY_S = 0.5
REPORT_EVERY_MAX_S = 1.5  # well before silence counts as death (p2p.control.controller.SILENT_S)
PEERS_AT_FULL_RATE = 100


def report_every_s(peers: int) -> float:
    """How often a peer tells the leader how it is: at most 200 reports per second in all, up to
    300 peers, then more slowly more.
    """
    return min(REPORT_EVERY_MAX_S, REPORT_EVERY_S * max(1.0, peers / PEERS_AT_FULL_RATE))


def digest_every_s(peers: int) -> float:
    """How often the leader tells all others how all are: at most 200 messages per second in all.
    Each has about 30 bytes per peer, so 1,000 peers cost the leader 6 MB per second.
    """
    return REPORT_EVERY_S * max(1.0, peers / PEERS_AT_FULL_RATE)


@dataclass(frozen=True, slots=True)
class TrainerReport:
    """One trainer child. `ready`, `entered`, `progress`, `mark`, … are its last messages."""

    child: str
    job: str
    phase: str  # starting | ready | stopping | failed | crashed (it will be started again)
    ready: Mapping[str, Any] = field(default_factory=dict)
    entered: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    mark: Mapping[str, Any] = field(default_factory=dict)
    finished: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_failed: Mapping[str, Any] = field(default_factory=dict)
    # How often it died here of late, how the last time, and how long its peer then waits.
    crashed: Mapping[str, Any] = field(default_factory=dict)
    unusable: Mapping[str, Any] = field(default_factory=dict)  # a checkpoint, in a generation
    unfetchable: Mapping[str, Any] = field(default_factory=dict)  # told by its peer
    checkpoints: tuple[Mapping[str, Any], ...] = ()

    @property
    def paces(self) -> Paces | None:
        """Its two last measurements, once there are two."""
        told = [Pace(*one) for one in self.progress.get("pace", ())][-2:]
        return Paces(*told) if len(told) == 2 else None

    @property
    def is_ready(self) -> bool:
        return self.phase == "ready"


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One replica child: what it said of its model, or why it failed, and how busy it is."""

    child: str
    service: str
    revision: int
    # starting | ready | stopping | failed | crashed (another will be started) | crowded (it waits
    # for memory that one with older weights has)
    phase: str
    model: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    running: int = 0  # prompts that it answers now
    waiting: int = 0
    # How often those of this service died here of late, as of a trainer.
    crashed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeerReport:
    """`member` holds the fields of p2p.replicated.state.Member except its state."""

    member: Mapping[str, Any]
    rss: int
    cpu_percent: float
    leaving: bool = False
    trainers: Mapping[str, TrainerReport] = field(default_factory=dict)  # by job
    device: str = "cpu"  # what its trainers compute on: cpu | cuda
    gpus: tuple[Mapping[str, Any], ...] = ()  # see p2p.devices.gpus.Gpu
    figures: Mapping[str, float] = field(default_factory=dict)  # see p2p.measure.catalog
    replicas: tuple[ReplicaReport, ...] = ()
    queued: Mapping[str, int] = field(default_factory=dict)  # prompts that wait here, by service

    @property
    def for_planners(self) -> tuple[object, ...]:
        """What decisions depend on; the rest is for people to see."""
        return self.member, self.leaving, self.trainers, self.replicas, self.queued

    def to_wire(self) -> dict[str, Any]:
        return {
            "member": dict(self.member),
            "rss": self.rss,
            "cpu_percent": self.cpu_percent,
            "leaving": self.leaving,
            "trainers": [_trainer_to_wire(trainer) for trainer in self.trainers.values()],
            "device": self.device,
            "gpus": [dict(gpu) for gpu in self.gpus],
            "figures": dict(self.figures),
            "replicas": [asdict(replica) for replica in self.replicas],
            "queued": dict(self.queued),
        }


@dataclass(frozen=True, slots=True)
class Observed:
    """What the leader sees now, beside the log. Times are monotonic seconds of its own clock."""

    now_s: float
    reports: Mapping[str, PeerReport] = field(default_factory=dict)
    heard_s: Mapping[str, float] = field(default_factory=dict)
    down_since_s: Mapping[str, float] = field(default_factory=dict)
    ready_s: Mapping[str, float] = field(default_factory=dict)  # by child: first seen ready
    # By service, what its load asks for (p2p.control.scaling), and since when.
    pressure: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)  # by job: the newest step heard of


def parse_report(body: Mapping[str, Any]) -> PeerReport:
    try:
        trainers = [_trainer_from_wire(fields) for fields in body["trainers"]]
        parse_member(_map(body["member"]))
        return PeerReport(
            member=_map(body["member"]),
            rss=int(body["rss"]),
            cpu_percent=float(body["cpu_percent"]),
            leaving=bool(body["leaving"]),
            trainers={trainer.job: trainer for trainer in trainers},
            device=parse_device(body.get("device", "cpu")),
            gpus=parse_gpus(body.get("gpus", ())),
            figures=parse_figures(body.get("figures")),
            replicas=tuple(map(_replica_from_wire, body.get("replicas", ()))),
            queued=parse_queued(body.get("queued", {})),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Malformed(f"report: {error!r}") from error


_REPLICA = {"child": str, "service": str, "revision": int, "phase": str, "model": dict}
_REPLICA |= {"error": str, "running": int, "waiting": int}


def _replica_from_wire(value: Any) -> ReplicaReport:
    """Raises TypeError or KeyError: what the log would refuse, a leader would propose for ever."""
    told = _map(value)
    if not all(type(told[name]) is kind for name, kind in _REPLICA.items()):
        raise TypeError("a replica's report is wrong")
    crashed, model = _map(told.get("crashed", {})), told["model"]
    if told["phase"] == "ready" and not all(
        type(model.get(name)) is kind for name, kind in MODEL_FIELDS.items()
    ):
        raise TypeError("a replica that answers does not say what its model is")
    texts = (told["child"], told["service"], *model.values(), crashed.get("child"))
    if any(isinstance(text, str) and len(text) > TEXT_MAX for text in texts):
        raise TypeError("a text in a replica's report is too long")
    if crashed:
        check_trainer_message("crashed", crashed)
    return ReplicaReport(**{name: told[name] for name in _REPLICA}, crashed=crashed)


def parse_queued(value: Any) -> dict[str, int]:
    """Raises TypeError."""
    if not all(type(name) is str and type(count) is int for name, count in _map(value).items()):
        raise TypeError("not how many prompts wait")
    return dict(value)


def parse_device(value: Any) -> str:
    """Raises TypeError."""
    if value not in ("cpu", "cuda"):
        raise TypeError(f"no device: {value!r}")
    return str(value)


GPUS_MAX = 64
_GPU_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("uuid", "name"), (str,)),
    **dict.fromkeys(("memory_total", "memory_used"), (int,)),
    "utilization": (int, float, type(None)),
}


def parse_gpus(value: Any) -> tuple[dict[str, Any], ...]:
    """What a peer tells of its GPUs. Raises TypeError when it is not that."""
    if not isinstance(value, list | tuple) or len(value) > GPUS_MAX:
        raise TypeError("not a list of GPUs")
    found = tuple({name: _map(gpu).get(name) for name in _GPU_FIELDS} for gpu in value)
    if not all(
        isinstance(gpu[name], kinds) for gpu in found for name, kinds in _GPU_FIELDS.items()
    ):
        raise TypeError("a GPU without its figures")
    return found


_NUMBER = (int, float)
_STANDING: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("generation", "step", "epoch", "samples"), (int,)),
    "loss": (*_NUMBER, type(None)),
    "metrics": (dict,),
    "state_hash": (str,),
    "ledger": (list,),
}
# What the planners read of each kind of a trainer's messages.
_TRAINER_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "ready": {"endpoints": (dict,), "steps_total": (int,)},  # the rest if they have it
    "entered": {
        **dict.fromkeys(("generation", "start_step", "steps_repeated"), (int,)),
        "stall_s": (*_NUMBER, type(None)),
    },
    "progress": {"generation": (int,), "step": (int,), "samples_per_second": _NUMBER},
    "figures": {"generation": (int,), "figures": (dict,)},
    "mark": _STANDING,
    "finished": _STANDING,
    "refused": {"generation": (int,), "error": (str,)},
    "failed": {"error": (str,)},
    "pulse": {
        "doing": (str,),
        "step": (int,),
        "for_s": _NUMBER,
        "usual_s": (*_NUMBER, type(None)),
    },
    "crashed": {"child": (str,), "count": (int,), "error": (str,), "again_s": _NUMBER},
    "checkpoint_failed": {"step": (int,), "error": (str,)},
    "unusable": {
        **dict.fromkeys(("generation", "step"), (int,)),
        "error": (str,),
        "bad": (list,),
    },
    "unfetchable": {"step": (int,), "error": (str,), "bad": (list,)},
    "checkpoint": {
        **dict.fromkeys(("generation", "step", "count", "writers"), (int,)),
        "state_hash": (str,),
        "parts": (list,),
    },
}
_PART: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("number", "bytes"), (int,)),
    **dict.fromkeys(("path", "digest"), (str,)),
    "seconds": _NUMBER,
}


# What else people are shown of it, where it is told.
_SHOWN: dict[str, tuple[type, ...]] = dict.fromkeys(
    ("bytes_per_step", "compression"), (*_NUMBER, type(None))
)


def check_trainer_message(kind: str, message: Mapping[str, Any]) -> None:
    """Raises Malformed when a field that the planners read is missing or mis-typed."""
    for name, kinds in _SHOWN.items() if kind == "progress" else ():
        if not isinstance(message.get(name), kinds):
            raise Malformed(f"a trainer's 'progress' message: {name} is wrong")
    for name, kinds in _TRAINER_FIELDS.get(kind, {}).items():
        if not isinstance(message.get(name), kinds) or (name not in message):
            raise Malformed(f"a trainer's {kind!r} message: {name} is missing or wrong")
    ledger = message["ledger"] if kind in ("mark", "finished") else ()
    if not all(isinstance(row, dict) and type(row.get("epoch")) is int for row in ledger):
        raise Malformed(f"a trainer's {kind!r} message: a row of its ledger is wrong")
    if kind in ("mark", "finished"):
        _check_said(kind, message)
    if kind == "progress":
        _check_pace(message.get("pace", []))
    if kind == "checkpoint" and type(message.get("asks", 0)) is not int:
        raise Malformed("a trainer's 'checkpoint' message: asks is wrong")
    for pair in message["bad"] if kind == "unfetchable" else ():
        if not isinstance(pair, list) or [type(each) for each in pair] != [int, str]:
            raise Malformed("a peer's 'unfetchable' message: bad is wrong")
    for part in message["parts"] if kind == "checkpoint" else ():
        if not isinstance(part, dict) or not (
            part.keys() == _PART.keys()
            and all(isinstance(part[name], kinds) for name, kinds in _PART.items())
        ):
            raise Malformed("a trainer's 'checkpoint' message: a part of it is wrong")


def _check_pace(pace: Any) -> None:
    """Up to two measurements: seconds per shard, seconds per step."""
    sound = isinstance(pace, list) and all(
        isinstance(one, list)
        and len(one) == 2
        and all(isinstance(seconds, _NUMBER) and 0 <= seconds < float("inf") for seconds in one)
        for one in pace
    )
    if not sound:
        raise Malformed("a trainer's 'progress' message: its pace is wrong")


def _check_said(kind: str, message: Mapping[str, Any]) -> None:
    """A mark may also hold notices for people, and what `auto` would have the method be."""
    notices, wish = message.get("notices", []), message.get("wish")
    sound = isinstance(notices, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("text"), str)
        and isinstance(each.get("rank"), int | None)
        for each in notices
    )
    if not sound:
        raise Malformed(f"a trainer's {kind!r} message: its notices are wrong")
    if not isinstance(message.get("differs", ""), str):
        raise Malformed(f"a trainer's {kind!r} message: what differs is wrong")
    names = ("strategy", "codec", "reason")
    if wish is not None and not (
        isinstance(wish, dict) and all(isinstance(wish.get(name), str) for name in names)
    ):
        raise Malformed(f"a trainer's {kind!r} message: its wish is wrong")


# The kinds of a trainer's messages of which the last one is kept, each a field of its report.
KEPT_MESSAGES = (
    *("ready", "entered", "progress", "mark", "finished", "refused", "failed", "checkpoint_failed"),
    "unusable",
)
_REPORTED = (*KEPT_MESSAGES, "crashed", "unfetchable")


def _trainer_to_wire(trainer: TrainerReport) -> dict[str, Any]:
    return {
        "child": trainer.child,
        "job": trainer.job,
        "phase": trainer.phase,
        "checkpoints": [dict(made) for made in trainer.checkpoints],
        **{name: dict(getattr(trainer, name)) for name in _REPORTED},
    }


def _trainer_from_wire(fields: Mapping[str, Any]) -> TrainerReport:
    for name in _REPORTED:
        if fields.get(name):
            check_trainer_message(name, _map(fields[name]))
    for made in fields["checkpoints"]:
        check_trainer_message("checkpoint", _map(made))
    if fields["phase"] == "ready" and not fields["ready"]:
        raise Malformed("a trainer that is ready without having said so")
    return TrainerReport(
        child=str(fields["child"]),
        job=str(fields["job"]),
        phase=str(fields["phase"]),
        checkpoints=tuple(_map(made) for made in fields["checkpoints"]),
        **{name: _map(fields.get(name, {})) for name in _REPORTED},
    )


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"not a map: {value!r}")
    return value
