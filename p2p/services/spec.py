"""What is asked to be served, as the command that puts it into the log. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p import job_spec
from p2p.checkpoints.restoring import checkpoint_of
from p2p.control.services import revision_of
from p2p.errors import P2PError, Usage
from p2p.find import find_job
from p2p.replicated.service import DEVICES, FOLDER, JOB, REPLICAS_MAX
from p2p.replicated.state import TEXT_MAX, State


def serve(state: State, args: Mapping[str, Any]) -> dict[str, Any]:
    """`model` is job:JOB[@STEP]; or a path with the `found` of a model_scan and the `peer` that has
    it, of the task that `job` says or its trainer did. Raises P2PError.
    """
    source, device = str(args["model"]), str(args.get("device") or "auto")
    least, most = args.get("replicas_min", 1), args.get("replicas_max", 1)
    if not (type(least) is int and type(most) is int and 1 <= least <= most <= REPLICAS_MAX):
        raise Usage(f"--replicas {least}:{most}: from 1 to {REPLICAS_MAX}, the least first")
    if device not in DEVICES:
        raise Usage(f"--device {device}: there are {', '.join(DEVICES)}")
    model = _of_files(state, args) if "found" in args else _of_job(state, source)
    name = str(args.get("name") or model.pop("name"))
    if not 0 < len(name) <= TEXT_MAX:
        raise Usage(f"a model's name has 1 to {TEXT_MAX} characters")
    bounds = {"replicas_min": least, "replicas_max": most, "device": device}
    return {"type": "serve.start", "source": source, **model, **bounds, "name": name}


def _of_job(state: State, source: str) -> dict[str, Any]:
    if not source.startswith(JOB):
        known = "job:JOB[@STEP], a file or a folder of safetensors, hf:FOLDER"
        raise Usage(f"{source[:100]!r} is no model: {known}")
    named, at, step = source.removeprefix(JOB).partition("@")
    if at and not step.isdecimal():
        raise Usage(f"{source[:100]!r}: the step after @ is a number")
    job = find_job(state, named)
    spec = {**job_spec.for_trainers(job.spec), "id": job.id, "name": job.name}
    told = {"name": job.name, "job": spec}
    if not at and job.checkpoint is None and not job.is_final:
        return {**told, "follows": job.id, "revision": None}  # its first one is waited for
    made = checkpoint_of(job, int(step) if at else None)
    revision = revision_of(made)
    if revision is None:
        raise P2PError(f"the checkpoint of step {made.step} is of an older version: make another")
    return {**told, "follows": None if at else job.id, "revision": revision}


def _of_files(state: State, args: Mapping[str, Any]) -> dict[str, Any]:
    told, peer = dict(args["found"]), str(args["peer"])
    names = ("name", "sha256", "bytes", "path")
    files = [{**{name: file[name] for name in names}, "peer": peer} for file in told["files"]]
    if any(not 0 < len(file["name"]) < 200 or set("/\0") & set(file["name"]) for file in files):
        raise Usage("a file of the model has a name that cannot be")
    step = told.get("step")
    revision = {"step": step if type(step) is int else 0, "state_hash": "", "files": files}
    if str(args["model"]).startswith(FOLDER):
        name = str(args["model"]).rstrip("/").rpartition("/")[2]
        return {"name": name, "job": None, "follows": None, "revision": revision}
    trained = state.jobs.get(str(told.get("job")))
    if "job" in args:
        spec: Mapping[str, Any] = job_spec.checked(dict(args["job"]))
    elif trained is not None and trained.spec["task"] == told.get("task"):
        spec = trained.spec
    else:
        raise Usage("which task is it of? give --task, and --set as it was trained with")
    name = job_spec.default_name(spec)
    job = {**job_spec.for_trainers(spec), "id": "served", "name": name}
    return {"name": name, "job": job, "follows": None, "revision": revision}
