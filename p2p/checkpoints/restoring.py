"""A new job from the checkpoint of another: what `p2pnode restore` puts into the log. Pure."""

from collections.abc import Mapping
from typing import Any

from p2p.errors import P2PError, Usage
from p2p.find import find_job
from p2p.replicated.state import TEXT_MAX, Checkpoint, Job, State

# What may be another than in the job whose checkpoint it is; all else would change its meaning.
CHANGEABLE = ("epochs", "steps", "peers_min", "peers_max", "keep_checkpoints", "checkpoint_every")


def restore(state: State, args: Mapping[str, Any]) -> dict[str, Any]:
    """The command. Raises P2PError or Usage."""
    source = find_job(state, str(args["job"]))
    made = checkpoint_of(source, args.get("step"))
    changes = {name: args[name] for name in CHANGEABLE if args.get(name) is not None}
    for name, value in changes.items():
        if type(value) is not int or value < 1:
            raise Usage(f"{name} is {value!r}: it must be a whole number from 1 up")
    if changes.get("steps", made.step) < made.step:
        raise Usage(f"--steps {changes['steps']}: the checkpoint is of step {made.step} already")
    if "epochs" in changes or "steps" in changes:
        changes = {"epochs": None, "steps": None, **changes}
    spec = {**source.spec, **changes}
    if (spec.get("peers_min") or 0) > spec["shards"]:
        raise Usage(f"--peers {spec['peers_min']}: the job has {spec['shards']} shards only")
    name = str(args.get("name") or source.name)
    if len(name) > TEXT_MAX:
        raise Usage(f"a job's name has at most {TEXT_MAX} characters")
    wish = {"job": source.id, "step": made.step}
    return {"type": "job.submit", "name": name, "spec": spec, "restored": wish}


def checkpoint_of(job: Job, step: object) -> Checkpoint:
    """That of this step, or the newest for None. Raises P2PError."""
    if job.checkpoint is None:
        raise P2PError(f"{job.name} has no checkpoint yet: `p2pnode checkpoint {job.id}` makes one")
    found = [made for made in job.checkpoints if step is None or made.step == step]
    if not found:
        known = ", ".join(str(made.step) for made in job.checkpoints)
        raise P2PError(f"{job.name} has no checkpoint of step {step}: there are {known}")
    return found[-1]
