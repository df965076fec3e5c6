"""When a front gives a prompt up, and how the end of an answer is told. Pure."""

from typing import Any

from p2p.errors import P2PError, Usage
from p2p.routing.choice import AT_REPLICA_MAX, Replicas
from p2p.routing.prompts import DEATHS_MAX, Asked, Prompt, Target, ToClient
from p2p.serving.messages import Done

HELD_MAX_S = 60.0  # without reading one
NOBODY_MAX_S = 60.0  # so long a prompt waits while no replica can answer
RETRY_MIN_S, RETRY_MAX_S = 1, 60


def overdue(prompt: Prompt, replicas: Replicas, now_s: float) -> str | None:
    """Why it is given up, or None."""
    if now_s - prompt.asked_s >= prompt.asked.timeout_s:
        return f"it was not answered within {prompt.asked.timeout_s:g} s"
    if prompt.held_s is not None:
        slow = now_s - prompt.held_s >= HELD_MAX_S
        return f"its client read nothing for {HELD_MAX_S:g} s" if slow else None
    if prompt.target is not None or now_s - prompt.waits_s < NOBODY_MAX_S:
        return None
    if replicas.could(prompt):
        return None
    if replicas.answering(prompt.asked.service):
        return (
            "no replica is left that computes as the one that began this answer, and none came "
            f"back for {NOBODY_MAX_S:g} s: ask again from the beginning"
        )
    return f"no replica could answer for {NOBODY_MAX_S:g} s: `p2pnode status` shows why"


def hopeless(prompt: Prompt, replicas: Replicas, is_served: bool, newest: int | None) -> str | None:
    """Why a prompt that no replica has will never be answered, or None. `newest`: the revision of
    its service that replicas get now.
    """
    if prompt.deaths >= DEATHS_MAX:
        return f"{prompt.deaths} replicas ended while they answered this prompt"
    if not is_served:
        return "it is served no more"
    if prompt.needs is None or newest is None or prompt.needs.revision >= newest:
        return None
    if replicas.could(prompt):
        return None
    return (
        "the weights that this answer began with were replaced, and the last replica with them "
        "is gone: ask again from the beginning"
    )


def answered(prompt: Prompt, target: Target, done: Done, now_s: float) -> dict[str, Any]:
    if done.reason == "error":
        # Nothing of the prompt was counted: the model cannot take it.
        code = P2PError.exit_code if done.prompt_tokens else Usage.exit_code
        return {"error": done.error or "the replica failed", "exit_code": code}
    tokens = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}
    return {
        "reason": done.reason,
        "text": done.text,
        "usage": tokens,
        "peer": target.peer,
        "replica": target.child,
        "revision": target.revision,
        "service": target.service,
        "moves": prompt.moves,
        "seconds": now_s - prompt.asked_s,
    }


def busy(asked: Asked, queued: int, replicas: int, usual_s: float) -> ToClient:
    """`usual_s`: what a prompt takes, of which a replica has so many at a time."""
    retry_s = round(queued * usual_s / (max(1, replicas) * AT_REPLICA_MAX))
    retry_s = min(max(RETRY_MIN_S, retry_s), RETRY_MAX_S)
    text = f"{queued} prompts wait here already: busy, retry after {retry_s} s"
    told = {"error": text, "exit_code": 1, "kind": "Busy", "retry_s": retry_s}
    return ToClient(asked.client, asked.order.request, told, is_last=True)
