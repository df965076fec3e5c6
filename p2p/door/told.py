"""Answers, chunks of streams, errors and health as OpenAI's JSON. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2p.errors import Busy, P2PError, Usage
from p2p.generation import End

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
NO_ANSWER = "the cluster does not answer now: `p2pnode status` on this machine says why"
DONE = b"data: [DONE]\n\n"
OWNER = "p2pnode"


class Problem(Exception):
    """An answer that is an error: `status` of HTTP, one sentence, and perhaps when to try again."""

    def __init__(
        self, status: int, sentence: str, code: str | None = None, retry_s: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.status, self.code, self.retry_s = status, code, retry_s

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error")
        return {
            "error": {"message": str(self), "type": kind, "param": None, "code": self.code},
        }

    def headers(self) -> dict[str, str]:
        found = {} if self.retry_s is None else {"retry-after": str(max(1, round(self.retry_s)))}
        return found if self.status != 401 else {**found, "www-authenticate": "Bearer"}


def failed(error: P2PError, model: str | None, served: Sequence[str] | None) -> Problem:
    """`served`: the names and ids that a prompt can be for, where they are known."""
    sentence = str(error)
    if isinstance(error, Busy):
        return Problem(429, sentence, "busy", error.retry_s)
    if not isinstance(error, Usage):
        return Problem(503, sentence, "unavailable")
    if model is not None and served is not None and model not in served:
        return Problem(404, sentence, "model_not_found")
    return Problem(400, sentence, "invalid_value")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one answer is told: `id`, and `created` in seconds since 1970."""

    id: str
    created: int
    model: str
    is_chat: bool
    has_usage: bool = False  # a stream with one chunk more

    def whole(self, text: str, end: End) -> dict[str, Any]:
        said: dict[str, Any] = {"text": text}
        if self.is_chat:
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        kind = "chat.completion" if self.is_chat else "text_completion"
        return {**self._head(kind), "choices": [_choice(said, end.reason)], "usage": usage(end)}

    def first(self) -> list[dict[str, Any]]:
        """Before the first piece."""
        return [self._chunk({"role": "assistant", "content": ""})] if self.is_chat else []

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text} if self.is_chat else {"text": text})

    def last(self, end: End) -> list[dict[str, Any]]:
        """After the last piece."""
        ending = self._chunk({} if self.is_chat else {"text": ""}, end.reason)
        if not self.has_usage:
            return [ending]
        return [ending, {**self._head(self._kind), "choices": [], "usage": usage(end)}]

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _chunk(self, said: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = _choice({"delta": said} if self.is_chat else said, reason)
        told = {**self._head(self._kind), "choices": [choice]}
        return {**told, "usage": None} if self.has_usage else told

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _choice(said: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def usage(end: End) -> dict[str, int]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }


def event(told: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(told, separators=(",", ":")).encode() + b"\n\n"


def models(served: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of what p2p.services.view tells. When each was first served is not known: 0."""
    return {"object": "list", "data": [_model(each["name"]) for each in served]}


def model(served: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Raises Problem."""
    if any(name in (each["name"], each["id"]) for each in served):
        return _model(name)
    known = ", ".join(each["name"] for each in served) or "none"
    sentence = f"no model {name[:100]!r} is served: there are {known}"
    raise Problem(404, sentence, "model_not_found")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def why_unwell(status: Mapping[str, Any], served: Sequence[Mapping[str, Any]]) -> str | None:
    """Why no prompt can be answered now; None = one can. Names nothing: anybody may ask."""
    there = {peer["id"] for peer in status["peers"] if peer["state"] in ("alive", "suspect")}
    if any(replica["peer"] in there for each in served for replica in each["replicas"]):
        return None
    if not status["cluster"]["quorum"]:
        return "no replica can answer, and too few peers are there to start one: start the others"
    if not served:
        return "no model is served: `p2pnode serve job:JOB` serves what a job trained"
    return "no replica can answer now: `p2pnode models` shows why"
