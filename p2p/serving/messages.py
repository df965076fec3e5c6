"""What a peer and its replica say to each other: every message. Pure.

Orders go from the peer to the replica, news come back; each is a frame of p2p.training.stream. A
replica sends one Tokens for all its streams per decode step. What it generates is a function of
the model's weights, the prompt, the seed and the sampling alone, so a request that goes on at
another replica, with the `sent` ids that its client has, goes on with the same ids and text:

- the text after some ids is a function of these ids (and of `stop`), so it is neither repeated nor
  left out when `sent` replaces what another replica said;
- what is held back (half a character, what may become a stop string) comes with Done, once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SENTENCE_CHARACTERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model, warm up, and say Ready or Failed. The first order, once.

    Either `job` with `weights` (a job as a trainer gets it, and the safetensors files of one
    checkpoint in any order), or `folder`, a Hugging Face model.
    """

    name: str
    device: str | None = None  # a GPU's uuid; None = processor
    job: Mapping[str, Any] | None = None
    source_dir: str = ""  # where the task's files are put
    weights: tuple[str, ...] = ()
    folder: str | None = None
    memory_bytes: int | None = None  # that this replica may take; None = what the machine has
    streams: int = 16  # generated at the same time
    waiting: int = 256  # more are refused as busy

    def to_wire(self) -> dict[str, Any]:
        names = ("name", "job", "source_dir", "folder")
        model = {name: getattr(self, name) for name in names} | {"weights": list(self.weights)}
        numbers = ("device", "memory_bytes", "streams", "waiting")
        return {"kind": "load", "model": model, **{n: getattr(self, n) for n in numbers}}


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature 0 = always the likeliest; top_k 0 and top_p 1 = all may be drawn."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generate:
    """Exactly one of `text`, `messages` ({"role", "content"} each) and `tokens` is the prompt."""

    request: str
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    tokens: tuple[int, ...] | None = None
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    sent: tuple[int, ...] = ()  # ids that the client has already, of `max_tokens`

    def to_wire(self) -> dict[str, Any]:
        prompt: dict[str, Any] = {"text": self.text}
        if self.messages is not None:
            prompt = {"messages": [dict(message) for message in self.messages]}
        elif self.tokens is not None:
            prompt = {"tokens": list(self.tokens)}
        wire = {"kind": "generate", "request": self.request, **prompt, **asdict(self.sampling)}
        lists = {"stop": list(self.stop), "sent": list(self.sent)}
        return {**wire, "max_tokens": self.max_tokens, **lists}


@dataclass(frozen=True, slots=True)
class Cancel:
    """Done follows with "cancelled", unless it was done already."""

    request: str

    def to_wire(self) -> dict[str, Any]:
        return {"kind": "cancel", "request": self.request}


@dataclass(frozen=True, slots=True)
class Ready:
    """It answers from now on. `digest` names the weights: the same on every replica of them."""

    name: str
    parameters: int
    bytes: int  # of its parameters and buffers
    context: int  # tokens, of prompt and answer together
    digest: str
    streams: int  # at the same time, that its memory is enough for

    def to_wire(self) -> dict[str, Any]:
        names = ("name", "parameters", "bytes", "context", "digest")
        model = {name: getattr(self, name) for name in names}
        return {"kind": "ready", "model": model, "streams": self.streams}


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot load the model, and ends."""

    error: str

    def to_wire(self) -> dict[str, Any]:
        return {"kind": "failed", "error": self.error[:SENTENCE_CHARACTERS_MAX]}


@dataclass(frozen=True, slots=True)
class Stream:
    """The ids that one request got in this step, and the text that can be shown since."""

    request: str
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    streams: tuple[Stream, ...]
    running: int
    waiting: int

    def to_wire(self) -> dict[str, Any]:
        streams = [{"request": s.request, "ids": list(s.ids), "text": s.text} for s in self.streams]
        told = {"running": self.running, "waiting": self.waiting}
        return {"kind": "tokens", "streams": streams, **told}


@dataclass(frozen=True, slots=True)
class Done:
    """The last of a request, with the rest of its text. `retry_s`: busy, ask again after that."""

    request: str
    reason: str
    prompt_tokens: int
    completion_tokens: int  # those of `sent` among them
    text: str = ""
    error: str | None = None
    retry_s: float | None = None

    def to_wire(self) -> dict[str, Any]:
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        told = {"kind": "done", "request": self.request, "reason": self.reason, "usage": usage}
        error = None if self.error is None else self.error[:SENTENCE_CHARACTERS_MAX]
        return {**told, "text": self.text, "error": error, "retry_s": self.retry_s}


@dataclass(frozen=True, slots=True)
class Pulse:
    """What it is at, for how long so far, and what that usually takes, in seconds; None = it never
    did that before. "wait" = it waits for its peer.
    """

    doing: str
    for_s: float
    usual_s: float | None

    def to_wire(self) -> dict[str, Any]:
        return {"kind": "pulse", **asdict(self)}


PromptOrder = Generate | Cancel
Order = Load | PromptOrder
News = Ready | Failed | Tokens | Done | Pulse
