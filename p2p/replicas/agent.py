"""plan(state, local) -> actions: what one peer does to its own replicas. Pure.

A peer loads what the log assigns to it. While newer weights load, the replica with the older ones
goes on answering; it is stopped once the log has its successor, and nothing waits for it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from p2p.agent import CRASHES_MAX, STATUS_WITHIN_S, Crashes, backoff_s
from p2p.control.deadlines import FLOOR_S, Pulse, hung
from p2p.replicated.service import Service
from p2p.replicated.state import State

# Who is replaced or not wanted any more may answer so long what it has begun.
DRAIN_MAX_S = 30.0
# A replica that is silent, or at one thing, for so long loses its prompts to others; when a trainer
# would count as hung it is ended. One that loads may wait for its machine, or for its own code.
STUCK_S = 3.0
LOADING_SILENT_S = 60.0
MEMORY_FACTOR = 1.25  # of the files' bytes: the weights, and what a few prompts need beside them
MEMORY_LEAST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalReplica:
    child: str
    service: str
    revision: int
    phase: str  # starting | ready | stopping | failed
    prompts: int = 0  # that it answers now, or that wait for it
    unwanted_s: float | None = None  # since when
    gpu: str | None = None
    pulse: Pulse | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """Of one revision: where each file is here, or why they cannot be had."""

    paths: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Local:
    self_id: str
    now_s: float
    leaving: bool
    warm: bool
    replicas: Mapping[str, LocalReplica]  # by child
    crashes: Mapping[str, Crashes] = field(default_factory=dict)  # by service
    files: Mapping[tuple[str, int], Files] = field(default_factory=dict)  # by service and revision
    gpus: tuple[str, ...] = ()
    unstartable: str | None = None
    free_bytes: int | None = None  # memory; None = not known


@dataclass(frozen=True, slots=True)
class Fetch:
    """The files of a service's weights shall be here."""

    service: Service


@dataclass(frozen=True, slots=True)
class Start:
    service: Service
    paths: tuple[str, ...]
    gpu: str | None


@dataclass(frozen=True, slots=True)
class Unwanted:
    """It gets no new prompts, and may finish those that it has."""

    child: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """It seems to hang: what it has may be given to others."""

    child: str


@dataclass(frozen=True, slots=True)
class Kill:
    """`hung`: the sentence that says so, or it is not wanted any more."""

    child: str
    hung: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The leader shall set this peer aside for the service."""

    service: str
    revision: int
    error: str


Action = Fetch | Start | Unwanted | Doubt | Kill | GiveUp


def plan(state: State, local: Local) -> list[Action]:
    return [*_ends(state, local), *_hangs(local), *_starts(state, local)]


def _hangs(local: Local) -> Iterator[Doubt | Kill]:
    for replica in local.replicas.values():
        if replica.pulse is None or replica.phase == "failed":
            continue
        floor_s = LOADING_SILENT_S if replica.phase == "starting" else FLOOR_S
        why = hung(replica.pulse, local.now_s, floor_s)
        if why is not None:
            yield Kill(replica.child, why)
        elif replica.phase == "ready" and hung(replica.pulse, local.now_s, STUCK_S):
            yield Doubt(replica.child)


def _ends(state: State, local: Local) -> Iterator[Unwanted | Kill]:
    for replica in local.replicas.values():
        if _is_wanted(replica, state, local.self_id):
            continue
        since_s = replica.unwanted_s
        if since_s is None:
            yield Unwanted(replica.child)
        elif not replica.prompts or local.now_s - since_s >= DRAIN_MAX_S:
            yield Kill(replica.child)


def _is_wanted(replica: LocalReplica, state: State, self_id: str) -> bool:
    service = state.services.get(replica.service)
    if service is None or service.is_ended or self_id not in service.assigned:
        return False
    answering = any(told.child == replica.child for told in service.replicas)
    return replica.revision == service.assigned[self_id] or answering


def _starts(state: State, local: Local) -> Iterator[Fetch | Start | GiveUp]:
    if local.leaving:
        return
    used = Counter(replica.gpu for replica in local.replicas.values())
    for service in state.services.values():
        revision = service.assigned.get(local.self_id)
        if service.is_ended or revision is None or revision != service.revision.number:
            continue
        if any(
            (told.service, told.revision) == (service.id, revision)
            for told in local.replicas.values()
        ):
            continue
        files = local.files.get((service.id, revision))
        if files is None:
            yield Fetch(service)
            continue
        yield from _start(service, files, local, used)


def _start(
    service: Service, files: Files, local: Local, used: Counter[str | None]
) -> Iterator[Start | GiveUp]:
    problem = files.problem or _no_room(service, local)
    crashes = local.crashes.get(service.id, Crashes(0, 0.0))
    since_s = local.now_s - crashes.last_s
    revision = service.revision.number
    if crashes.count >= CRASHES_MAX:
        if crashes.how or since_s >= STATUS_WITHIN_S:
            how = crashes.how or "its process ended"
            error = f"its replica died {crashes.count} times in a row: {how}"
            yield GiveUp(service.id, revision, error)
    elif problem:
        yield GiveUp(service.id, revision, problem)
    elif local.warm and since_s >= backoff_s(crashes.count):
        gpus = local.gpus if service.device != "cpu" else ()
        yield Start(service, files.paths, min(gpus, key=lambda uuid: used[uuid], default=None))
    elif not local.warm and local.unstartable is not None:
        yield GiveUp(service.id, revision, local.unstartable)


def _no_room(service: Service, local: Local) -> str:
    if service.device == "cuda" and not local.gpus:
        return "it has no GPU that replicas may use"
    needed = int(service.revision.bytes * MEMORY_FACTOR) + MEMORY_LEAST_BYTES
    if local.free_bytes is None or needed <= local.free_bytes:
        return ""
    return (
        f"{service.name} needs about {_megabytes(needed)} of memory and "
        f"{_megabytes(local.free_bytes)} are free"
    )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
