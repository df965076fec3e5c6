"""Requests that concern the log: what each becomes as a command, and what is read of the state.

Pure. What does not fit the state is refused before it is in the log: P2PError says why.
"""

from collections.abc import Callable, Mapping
from typing import Any

from p2p import job_spec
from p2p.checkpoints.restoring import restore
from p2p.errors import P2PError, Usage
from p2p.find import find_dataset, find_job, find_member, find_service, serve_job
from p2p.replicated.apply_alerts import acknowledge_command, event_command
from p2p.replicated.apply_data import parse_dataset
from p2p.replicated.state import REPLACES_MAX, TEXT_MAX, State, parse_member
from p2p.replicated.store import problem_with
from p2p.services.spec import serve
from p2p.training.method import changed

Args = Mapping[str, Any]
Verb = Callable[[State, Args], dict[str, Any]]


def _join(state: State, args: Args) -> dict[str, Any]:
    parse_member(args["member"])
    joins = {"type": "member.join", "member": dict(args["member"])}
    replaces = [str(peer) for peer in args.get("replaces", ())]
    if len(replaces) > REPLACES_MAX:
        raise Usage(f"a peer replaces at most {REPLACES_MAX} former selves")
    return {**joins, "replaces": replaces} if replaces else joins


def _leave(state: State, args: Args) -> dict[str, Any]:
    return {"type": "member.leave", "peer": str(args["peer"])}


def _remove(state: State, args: Args) -> dict[str, Any]:
    target = find_member(state, str(args["peer"]))
    others = [told for told in state.members.values() if told.id != target.id]
    if not others:
        raise P2PError(f"{target.name} is the only peer: stop it instead")
    if not any(told.state == "alive" for told in others):
        raise P2PError(
            f"{target.name} is the only peer that runs: start or remove the others first"
        )
    return {"type": "member.remove", "peer": target.id}


def _submit(state: State, args: Args) -> dict[str, Any]:
    spec = job_spec.checked(_with_dataset(state, args))
    name = str(args.get("name") or job_spec.default_name(spec))
    if max(len(name), len(spec["task"])) > TEXT_MAX:
        raise Usage(f"a job's name and task have at most {TEXT_MAX} characters")
    return {"type": "job.submit", "name": name, "spec": spec}


def _with_dataset(state: State, args: Args) -> Args:
    """`--data NAME` is a dataset's name first, and else a path."""
    named = args.get("data_name")
    rest = {name: value for name, value in args.items() if name not in ("data_name", "dataset")}
    if named not in state.datasets:
        return rest
    dataset = state.datasets[str(named)]
    del rest["data"]
    return {**rest, "dataset": {"name": dataset.name, "manifest": dataset.manifest}}


def _register_data(state: State, args: Args) -> dict[str, Any]:
    try:
        parse_dataset(args["dataset"], 0.0)
    except ValueError as error:
        raise Usage(str(error)) from error
    return {"type": "data.register", "dataset": dict(args["dataset"])}


def _drop_data(state: State, args: Args) -> dict[str, Any]:
    return {"type": "data.drop", "name": find_dataset(state, str(args["name"])).name}


def _set(state: State, args: Args) -> dict[str, Any]:
    job = find_job(state, str(args["job"]))
    changes = {str(name): str(text) for name, text in dict(args["changes"]).items()}
    if sum(map(len, [*changes, *changes.values()])) > TEXT_MAX:
        raise Usage(f"what is set at once has at most {TEXT_MAX} characters")
    method = changed(job.method, changes, int(job.spec["shards"]))
    told = {"method": method.to_order(), "after_revision": job.method.revision}
    return {"type": "job.set", "job": job.id, **told, "reason": method.reason}


def _unserve(state: State, args: Args) -> dict[str, Any]:
    return {"type": "serve.stop", "service": find_service(state, str(args["model"])).id}


def _open_session(state: State, args: Args) -> dict[str, Any]:
    return {"type": "session.open"}


def _put(state: State, args: Args) -> dict[str, Any]:
    return _storable({"type": "store.put", "key": args["key"], "value": args["value"]})


def _delete(state: State, args: Args) -> dict[str, Any]:
    return _storable({"type": "store.delete", "key": args["key"]})


def _compare_and_set(state: State, args: Args) -> dict[str, Any]:
    expected, value = args["expected"], args["value"]
    if expected is not None:
        _storable({"key": args["key"], "value": expected})
    command = {"type": "store.compare_and_set", "key": args["key"], "expected": expected}
    return _storable(command if value is None else {**command, "value": value}) | {"value": value}


def _get(state: State, args: Args) -> dict[str, Any]:
    key = str(_storable({"key": args["key"]})["key"])
    return {"value": state.store.get(key)}


def _storable(command: dict[str, Any]) -> dict[str, Any]:
    """Refused before it is in the log, not only after. Raises Usage."""
    problem = problem_with(command["key"], command.get("value", b""))
    if problem:
        raise Usage(problem)
    return command


def _on_job(verb: str) -> Verb:
    def command(state: State, args: Args) -> dict[str, Any]:
        return {"type": f"job.{verb}", "job": find_job(state, str(args["job"])).id}

    return command


def _cancel(state: State, args: Args) -> dict[str, Any]:
    service = serve_job(state, str(args["job"]))
    if service is not None:
        return {"type": "serve.stop", "service": service.id}
    return _on_job("cancel")(state, args)


PROPOSED: dict[str, Verb] = {
    "join": _join,
    "leave": _leave,
    "remove": _remove,
    "submit": _submit,
    "pause": _on_job("pause"),
    "resume": _on_job("resume"),
    "cancel": _cancel,
    "checkpoint": _on_job("checkpoint_ask"),
    "restore": restore,
    "set": _set,
    "data_register": _register_data,
    "data_drop": _drop_data,
    "serve": serve,
    "unserve": _unserve,
    "session": _open_session,
    "put": _put,
    "delete": _delete,
    "compare_and_set": _compare_and_set,
    "alert.acknowledge": acknowledge_command,
    "event.tell": event_command,
}
READ: dict[str, Verb] = {"get": _get}
