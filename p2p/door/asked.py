"""What OpenAI's JSON asks for, as a prompt and options of `Client.generate`. Pure.

A field that would change the answer and that nobody here can honour is refused with a sentence,
and so is a field that is not known: what was asked for and silently left out looks like an answer.
After https://platform.openai.com/docs/api-reference (completions, chat/completions).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2p.serving.checking import Fields, Malformed
from p2p.serving.protocol import generate

MODEL_CHARACTERS_MAX = 300
STOPS_MAX = 4  # as at OpenAI; our own protocol takes more
USER_CHARACTERS_MAX = 1_000
FROM_CHAT = {"developer": "system"}  # a role by another name
SAMPLING = ("temperature", "top_p", "top_k", "seed")
# Fields with the values that change nothing; null never does.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
WHY = {
    "n": "one answer is given per request: ask again with another seed",
    "logprobs": "a replica tells no log probabilities",
    "top_logprobs": "a replica tells no log probabilities",
}
# They ask for nothing that could be left out.
WITHOUT_EFFECT = frozenset(
    {"metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"}
)
BOTH = {"model", "max_tokens", "stop", "stream", "stream_options", "user", "prompt_cache_key"}
KNOWN = frozenset({*BOTH, *SAMPLING, *ONLY, *WITHOUT_EFFECT})
IN_MESSAGES_NOT = ("tool_calls", "function_call", "audio")


@dataclass(frozen=True, slots=True)
class Asked:
    """`prompt` and `options` are for `Client.generate`; `model` None = the only one."""

    prompt: str | list[int] | list[dict[str, str]]
    options: Mapping[str, Any]
    model: str | None = None
    is_chat: bool = False
    is_streamed: bool = False
    wants_usage: bool = False  # at the end of a stream


def completion(body: object) -> Asked:
    """Of /v1/completions. Raises Malformed."""
    fields = _known(body, {"prompt"})
    told = fields.wire.get("prompt")
    if isinstance(told, Sequence) and not isinstance(told, str) and len(told) == 1:
        told = told[0] if isinstance(told[0], str | list) else told
    if isinstance(told, str):
        return _asked(fields, {"text": told})
    if isinstance(told, list) and told and not any(isinstance(each, str | list) for each in told):
        return _asked(fields, {"tokens": told})
    if isinstance(told, list) and len(told) > 1:
        raise Malformed("prompt is a list of several: one prompt is answered per request")
    raise Malformed("prompt must be a text, a list of one text, or a list of token ids")


def chat(body: object) -> Asked:
    """Of /v1/chat/completions. Raises Malformed."""
    fields = _known(body, {"messages", "max_completion_tokens"})
    told = fields.wire.get("messages")
    if not isinstance(told, list) or not told:
        raise Malformed("messages must be a list of at least one message")
    return _asked(fields, {"messages": [_message(each) for each in told]})


def _known(body: object, own: set[str]) -> Fields:
    fields = Fields.of(body, "the body")
    unknown = sorted(set(fields.wire) - KNOWN - own)
    if unknown:
        raise Malformed(f"there is no field {unknown[0]!r:.100} here: leave it out")
    for name, values in ONLY.items():
        value = fields.wire.get(name)
        if value is not None and not any(_is_same(value, each) for each in values):
            only = " or ".join(repr(each) for each in values) or "null"
            why = WHY.get(name, "nothing here can honour it")
            raise Malformed(f"{name} is {value!r:.50}: only {only} is possible, as {why}")
    return fields


def _is_same(value: object, meant: object) -> bool:
    """true is no number."""
    return value == meant and isinstance(value, bool) == isinstance(meant, bool)


def _asked(fields: Fields, prompt: Mapping[str, Any]) -> Asked:
    options = {name: fields.wire[name] for name in SAMPLING if fields.has(name)}
    options |= _tokens_max(fields) | _stops(fields)
    order = generate(Fields({**prompt, **options, "request": "door"}))  # its ranges are ours
    given = fields.text("model", MODEL_CHARACTERS_MAX) if fields.has("model") else None
    is_streamed = _flag(fields, "stream")
    return Asked(
        order.text if order.text is not None else next(iter(prompt.values())),
        {**options, **_conversation(fields)},
        given or None,
        is_chat=order.messages is not None,
        is_streamed=is_streamed,
        wants_usage=_wants_usage(fields, is_streamed),
    )


def _tokens_max(fields: Fields) -> dict[str, Any]:
    names = ("max_completion_tokens", "max_tokens")
    values = [fields.wire[name] for name in names if fields.has(name)]
    if len(values) == 2 and values[0] != values[1]:
        raise Malformed("max_tokens and max_completion_tokens differ: give one of them")
    return {"max_tokens": values[0]} if values else {}


def _stops(fields: Fields) -> dict[str, Any]:
    if not fields.has("stop"):
        return {}
    given = fields.wire["stop"]
    stops = [given] if isinstance(given, str) else given
    if isinstance(stops, list) and len(stops) > STOPS_MAX:
        raise Malformed(f"stop has {len(stops)} entries: {STOPS_MAX} may be")
    return {"stop": stops}


def _conversation(fields: Fields) -> dict[str, str]:
    """Prompts of one user, or with one cache key, go to the replica that had the last of them."""
    names = [name for name in ("prompt_cache_key", "user") if fields.has(name)]
    told = [fields.text(name, USER_CHARACTERS_MAX) for name in names]
    return {"conversation": hashlib.sha256(told[0].encode()).hexdigest()[:32]} if told else {}


def _wants_usage(fields: Fields, is_streamed: bool) -> bool:
    if not fields.has("stream_options"):
        return False
    if not is_streamed:
        raise Malformed("stream_options is for a stream: give stream: true, or leave it out")
    options = fields.map("stream_options")
    unknown = sorted(set(options.wire) - {"include_usage", "include_obfuscation"})
    if unknown or _flag(options, "include_obfuscation"):
        raise Malformed("stream_options can have include_usage only")
    return _flag(options, "include_usage")


def _flag(fields: Fields, name: str) -> bool:
    value = fields.wire.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed(f"{name} is {value!r:.50}: it must be true or false")
    return bool(value)


def _message(told: object) -> dict[str, str]:
    fields = Fields.of(told, "a message")
    cannot = [name for name in IN_MESSAGES_NOT if fields.wire.get(name)]
    if cannot:
        raise Malformed(f"a message has {cannot[0]}: only text is understood here")
    role = fields.text("role")
    content = fields.wire.get("content")
    if isinstance(content, list):
        content = "".join(_part(each) for each in content)
    if not isinstance(content, str):
        raise Malformed("a message's content must be a text, or a list of parts of type text")
    return {"role": FROM_CHAT.get(role, role), "content": content}


def _part(told: object) -> str:
    fields = Fields.of(told, "a part of a message's content")
    kind = fields.text("type")
    if kind != "text":
        raise Malformed(f"a part of a message is of type {kind!r:.50}: only text is understood")
    return fields.text("text")
