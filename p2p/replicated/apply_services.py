"""Commands about serve jobs: what is served, by whom, and who can answer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from consensus.wire import as_uint
from p2p.content.messages import is_sha256
from p2p.replicated.journal import Rejected, with_event
from p2p.replicated.service import (
    DEVICES,
    ENDED_MAX,
    FILES_MAX,
    REPLICAS_MAX,
    ModelFile,
    Replica,
    Revision,
    Service,
    ServiceState,
)
from p2p.replicated.state import TASK_BYTES_MAX, TEXT_MAX, State

Command = Mapping[str, Any]
Result = tuple[State, Mapping[str, Any]]
MODEL_FIELDS: dict[str, type] = {
    **dict.fromkeys(("name", "digest"), str),
    **dict.fromkeys(("parameters", "bytes", "context"), int),
}


def start(state: State, command: Command) -> Result:
    name = _text(command["name"])
    if any(told.name == name and not told.is_ended for told in state.services.values()):
        raise Rejected(f"{name} is served already: give another --name, or unserve it first")
    least, most = command["replicas_min"], command["replicas_max"]
    job, follows = command.get("job"), command.get("follows")
    if not (type(least) is int and type(most) is int and 1 <= least <= most <= REPLICAS_MAX):
        raise Rejected(f"replicas {least}:{most}: from 1 to {REPLICAS_MAX}, the least first")
    if command["device"] not in DEVICES or not (job is None or isinstance(job, dict)):
        raise Rejected("malformed command: its device or job is wrong")
    newest = max((int(id_.removeprefix("serve-")) for id_ in state.services), default=0)
    made = Service(
        *(f"serve-{newest + 1}", name, _text(command["source"]), least, most),
        device=command["device"],
        job=job,
        follows=None if follows is None else _text(follows),
        target=least,
        revision=parse_revision(command.get("revision"), 0),
    )
    served = [told.job for told in state.services.values() if not told.is_ended]
    if sum(map(_task_bytes, [*served, job])) > TASK_BYTES_MAX:
        raise Rejected(
            f"no room for the task's files of {name}: those of all that is served may have "
            f"{TASK_BYTES_MAX / 1e6:.0f} MB together; `p2pnode unserve` one"
        )
    state = with_service(_without_oldest_ended(state), made)
    return _told(state, command, made, "serve-started", f"{name} shall be served")


def parse_revision(told: Any, after: int) -> Revision:
    """The revision that follows number `after`. Raises LookupError, TypeError or ValueError."""
    if told is None:
        return Revision()
    files = tuple(ModelFile(**file) for file in told["files"])
    sound = all(
        is_sha256(file.sha256)
        and type(file.bytes) is int
        and 0 <= file.bytes < 2**63
        and all(isinstance(text, str) for text in (file.name, file.peer, file.path))
        for file in files
    )
    if not (files and sound and len(files) <= FILES_MAX):
        raise ValueError("a model's files are wrong")
    return Revision(after + 1, as_uint(told["step"], "step"), str(told["state_hash"]), files)


def revise(state: State, command: Command) -> Result:
    """Newer weights; each replica is replaced by one that has them."""
    service = active(state, command)
    if command["after"] != service.revision.number:
        raise Rejected(f"{service.name} has other weights meanwhile")
    made = parse_revision(command["revision"], service.revision.number)
    service = replace(service, revision=made, excluded={})
    reason = _text(command["reason"])
    return _told(state, command, service, "serve-revised", f"{service.name}: {reason}")


def assign(state: State, command: Command) -> Result:
    """The peers that shall keep a replica, with which weights, and those set aside."""
    service = active(state, command)
    assigned = {_text(peer): as_uint(number, "n") for peer, number in command["peers"].items()}
    aside = {_text(peer): _text(why) for peer, why in command.get("excluded", {}).items()}
    kept = tuple(replica for replica in service.replicas if replica.peer in assigned)
    service = replace(
        service, assigned=assigned, replicas=kept, excluded={**service.excluded, **aside}
    )
    reason = _text(command["reason"])
    if service.state in ("queued", "starting", "recovering") or not kept:
        again = service.state in ("running", "recovering")
        state_: ServiceState = "recovering" if again else "starting"
        service = replace(service, state=state_ if assigned else "queued", reason=reason)
    state, answer = _told(state, command, service, "serve-placed", f"{service.name}: {reason}")
    for peer, why in aside.items():
        told = {"peer": peer, "job": service.id}
        text = f"{service.name}: {why}"
        state = with_event(state, command, "serve-excludes", text, severity="error", **told)
    return state, answer


def wait(state: State, command: Command) -> Result:
    """It cannot go on now, and says for what it waits."""
    service = active(state, command)
    reason = _text(command["reason"])
    service = replace(service, reason=reason)
    return _told(state, command, service, "serve-waits", f"{service.name} {reason}", "warning")


def ready(state: State, command: Command) -> Result:
    """A replica can answer from now on."""
    service, peer = active(state, command), _text(command["peer"])
    model = {name: command["model"][name] for name in MODEL_FIELDS}
    if not all(type(model[name]) is kind for name, kind in MODEL_FIELDS.items()):
        raise Rejected("malformed command: its model is wrong")
    revision = as_uint(command["revision"], "revision")
    made = Replica(peer, _text(command["child"]), revision, _text(model["digest"]))
    if peer not in service.assigned or peer not in state.members:
        raise Rejected(f"{service.name} is not served by {peer} any more")
    if made in service.replicas:
        raise Rejected("that was said already")
    # Its predecessor on that peer answers no new prompts.
    others = tuple(replica for replica in service.replicas if replica.peer != peer)
    service = replace(service, replicas=(*others, made), model=model, state="running", reason="")
    text = f"{state.members[peer].name} answers prompts for {service.name}"
    return _told(state, command, service, "replica-ready", text, peer=peer)


def lost(state: State, command: Command) -> Result:
    """A replica is gone, or its peer."""
    service, child = active(state, command), command["child"]
    gone = [replica for replica in service.replicas if replica.child == child]
    if not gone:
        raise Rejected(f"{service.name} has no such replica")
    kept = tuple(replica for replica in service.replicas if replica.child != child)
    reason = _text(command["reason"])
    service = replace(service, replicas=kept)
    if not kept:
        service = replace(service, state="recovering", reason=reason)
    text, peer = f"{service.name} lost a replica: {reason}", gone[0].peer
    return _told(state, command, service, "replica-lost", text, "warning", peer)


def crashed(state: State, command: Command) -> Result:
    """A replica died, whether it could answer already or not; its peer starts another."""
    service, peer = active(state, command), _text(command["peer"])
    if service.crashed.get(peer) == command["child"]:
        raise Rejected(f"{service.name}: that was said already")
    known = {other: child for other, child in service.crashed.items() if other in state.members}
    service = replace(service, crashed={**known, peer: _text(command["child"])})
    text = f"{service.name}: {_text(command['reason'])}"
    return _told(state, command, service, "replica-crashed", text, "warning", peer)


def scale(state: State, command: Command) -> Result:
    service, target = active(state, command), command["target"]
    if not (type(target) is int and service.replicas_min <= target <= service.replicas_max):
        raise Rejected(f"{service.name} may have {service.replicas_min} to {service.replicas_max}")
    service = replace(service, target=target)
    text = f"{service.name} shall have {target} replicas: {_text(command['reason'])}"
    return _told(state, command, service, "serve-scaled", text)


def fail(state: State, command: Command) -> Result:
    service = active(state, command)
    reason = _text(command["reason"])
    ended = _ended(replace(service, state="failed", reason=reason))
    return _told(state, command, ended, "serve-failed", f"{service.name}: {reason}", "error")


def stop(state: State, command: Command) -> Result:
    service = active(state, command)
    ended = _ended(replace(service, state="cancelled", reason="by a user"))
    return _told(state, command, ended, "serve-stopped", f"{service.name} is served no more")


def _ended(service: Service) -> Service:
    """What people are shown of it; neither its task's files nor the names of its weights'."""
    revision = replace(service.revision, files=())
    return replace(service, assigned={}, replicas=(), job=None, revision=revision)


def _task_bytes(job: Any) -> int:
    """What the files of its task add to every snapshot."""
    files = job.get("task_files") if isinstance(job, dict) else None
    texts = [job["task_source"]] if isinstance(job, dict) and "task_source" in job else []
    texts += files.values() if isinstance(files, dict) else ()
    return sum(len(text) for text in texts if isinstance(text, str | bytes))


def active(state: State, command: Command) -> Service:
    """The service that a command is about. Raises Rejected when there is none, or it has ended."""
    service = state.services.get(str(command["service"]))
    if service is None:
        raise Rejected(f"there is no serve job {command['service']}")
    if service.is_ended:
        raise Rejected(f"{service.name} is {service.state} already")
    return service


def readmitted(state: State, peer: str) -> State:
    """A new process of a peer may be able to do what the one before was set aside for."""
    found = [told for told in state.services.values() if peer in told.excluded]
    for service in found:
        kept = {other: why for other, why in service.excluded.items() if other != peer}
        state = with_service(state, replace(service, excluded=kept))
    return state


def with_service(state: State, service: Service) -> State:
    return replace(state, services={**state.services, service.id: service})


def _told(
    state: State,
    command: Command,
    service: Service,
    kind: str,
    text: str,
    severity: Any = "info",
    peer: str | None = None,
) -> Result:
    told = {"severity": severity, "peer": peer, "job": service.id}
    state = with_event(with_service(state, service), command, kind, text, **told)
    return state, {"job": service.id, "name": service.name, "state": service.state}


def _without_oldest_ended(state: State) -> State:
    ended = [service.id for service in state.services.values() if service.is_ended]
    if len(ended) < ENDED_MAX:
        return state
    kept = {id_: service for id_, service in state.services.items() if id_ != ended[0]}
    return replace(state, services=kept)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.50} is no text")
    return value[:TEXT_MAX]


SERVICE_COMMANDS: dict[str, Callable[[State, Command], Result]] = {
    "serve.start": start,
    "serve.revise": revise,
    "serve.assign": assign,
    "serve.wait": wait,
    "serve.ready": ready,
    "serve.lost": lost,
    "serve.crashed": crashed,
    "serve.scale": scale,
    "serve.fail": fail,
    "serve.stop": stop,
}
