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
from p2p.serving.memory import WEIGHTS_COPIES

# So long who is not wanted any more may answer what it has begun; who is replaced by newer weights
# longer, as no other can go on with that.
DRAIN_MAX_S = 30.0
REPLACED_MAX_S = 300.0
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
class Crowded:
    """There is no room for one beside that with older weights; the leader may make some."""

    service: str
    revision: int
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The leader shall set this peer aside for the service."""

    service: str
    revision: int
    error: str


Action = Fetch | Start | Unwanted | Doubt | Kill | Crowded | GiveUp


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
        elif not replica.prompts or local.now_s - since_s >= _drain_s(replica, state):
            yield Kill(replica.child)


def _drain_s(replica: LocalReplica, state: State) -> float:
    service = state.services.get(replica.service)
    is_old = service is not None and replica.revision < service.revision.number
    return REPLACED_MAX_S if is_old and service and not service.is_ended else DRAIN_MAX_S


def _is_wanted(replica: LocalReplica, state: State, self_id: str) -> bool:
    service = state.services.get(replica.service)
    if replica.unwanted_s is not None:  # the leader heard that it ends, and counts on another
        return False
    if service is None or service.is_ended or self_id not in service.assigned:
        return False
    answering = any(told.child == replica.child for told in service.replicas)
    return replica.revision == service.assigned[self_id] or answering


def _starts(state: State, local: Local) -> Iterator[Fetch | Start | Crowded | GiveUp]:
    if local.leaving:
        return
    used = Counter(replica.gpu for replica in local.replicas.values())
    # What is being loaded does not show in the memory that is free yet.
    loading = [told.service for told in local.replicas.values() if told.phase == "starting"]
    taken = sum(_needed(state.services[name]) for name in loading if name in state.services)
    for service in state.services.values():
        revision = service.assigned.get(local.self_id)
        if service.is_ended or revision is None or revision != service.revision.number:
            continue
        beside = [told for told in local.replicas.values() if told.service == service.id]
        if any(told.revision == revision and told.unwanted_s is None for told in beside):
            continue
        files = local.files.get((service.id, revision))
        if files is None:
            yield Fetch(service)
            continue
        why = _no_room(service, local, taken)
        if why and (beside or taken):
            yield Crowded(service.id, revision, why)
            continue
        for action in _start(service, files.problem or why, files.paths, local, used):
            if isinstance(action, Start):
                taken += _needed(service)
                used[action.gpu] += 1
            yield action


def _start(
    service: Service,
    problem: str,
    paths: tuple[str, ...],
    local: Local,
    used: Mapping[str | None, int],
) -> Iterator[Start | GiveUp]:
    gpus = local.gpus if service.device != "cpu" else ()
    if service.device == "cuda" and not gpus:
        problem = "it has no GPU that replicas may use"
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
        yield Start(service, paths, min(gpus, key=lambda uuid: used[uuid], default=None))
    elif not local.warm and local.unstartable is not None:
        yield GiveUp(service.id, revision, local.unstartable)


def _needed(service: Service) -> int:
    """Bytes of memory that loading takes: at most, of weights that are like those before them."""
    known = int(service.model.get("bytes", 0))
    files = int(service.revision.bytes * MEMORY_FACTOR)
    return max(files, WEIGHTS_COPIES * known) + MEMORY_LEAST_BYTES


def _no_room(service: Service, local: Local, taken: int) -> str:
    needed = _needed(service)
    if local.free_bytes is None or needed + taken <= local.free_bytes:
        return ""
    return (
        f"{service.name} needs about {_megabytes(needed)} of memory and "
        f"{_megabytes(max(0, local.free_bytes - taken))} are free"
    )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
