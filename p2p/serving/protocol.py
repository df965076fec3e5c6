"""Reads what a peer and its replica say to each other (p2p.serving.messages). Pure.

Whatever is not a message as it should be raises Malformed, with a sentence that names the field.
"""

from collections.abc import Mapping

from p2p.serving.checking import Fields, Malformed
from p2p.serving.messages import (
    SENTENCE_CHARACTERS_MAX,
    Cancel,
    Done,
    Failed,
    Generate,
    Load,
    News,
    Order,
    Pulse,
    Ready,
    Sampling,
    Stream,
    Tokens,
)

REQUEST_CHARACTERS_MAX = 128
PROMPT_BYTES_MAX = 1024 * 1024
TOKENS_MAX = 1 << 20  # in a prompt, and generated
MESSAGES_MAX = 1_000
STOPS_MAX, STOP_CHARACTERS_MAX = 16, 256
TOP_K_MAX = 1 << 20
TEMPERATURE_MAX = 100.0
TIMEOUT_S, TIMEOUT_MAX_S = 600.0, 86_400.0  # of a prompt, until its last token
SEED_MAX = (1 << 64) - 1
SECONDS_MAX = 1e9
ROLES = ("system", "user", "assistant", "tool")
REASONS = ("stop", "length", "cancelled", "error")


def order(wire: object) -> Order:
    """What a peer said. Raises Malformed."""
    fields = Fields.of(wire, "an order")
    kind = fields.text("kind")
    if kind == "load":
        return _load(fields)
    if kind == "generate":
        return generate(fields)
    if kind == "cancel":
        return Cancel(fields.text("request", REQUEST_CHARACTERS_MAX, least=1))
    raise Malformed(f"there is no order {kind!r}")


def news(wire: object) -> News:
    """What a replica said. Raises Malformed."""
    fields = Fields.of(wire, "news")
    kind = fields.text("kind")
    if kind == "ready":
        return _ready(fields)
    if kind == "failed":
        return Failed(fields.text("error", SENTENCE_CHARACTERS_MAX))
    if kind == "tokens":
        streams = tuple(_stream(each) for each in fields.maps("streams", MESSAGES_MAX))
        return Tokens(streams, fields.whole("running"), fields.whole("waiting"))
    if kind == "done":
        return _done(fields)
    if kind == "pulse":
        return _pulse(fields)
    raise Malformed(f"there are no news {kind!r}")


def generate(fields: Fields) -> Generate:
    """A request as it came from a client or a peer. Raises Malformed with a sentence for people."""
    given = [name for name in ("text", "messages", "tokens") if fields.has(name)]
    if len(given) != 1:
        raise Malformed("a prompt is exactly one of text, messages and tokens")
    text = fields.text("text", PROMPT_BYTES_MAX) if given == ["text"] else None
    messages = tuple(map(_message, fields.maps("messages", MESSAGES_MAX)))
    if sum(len(m["content"]) for m in messages) + len(text or "") > PROMPT_BYTES_MAX:
        raise Malformed(f"the prompt is longer than {PROMPT_BYTES_MAX} characters")
    if given == ["messages"] and not messages:
        raise Malformed("messages is empty: give at least one")
    sampling = Sampling(
        fields.number("temperature", 0.0, 0.0, TEMPERATURE_MAX),
        fields.whole("top_k", 0, TOP_K_MAX, default=0),
        fields.number("top_p", 1.0, 0.0, 1.0),
        fields.whole("seed", 0, SEED_MAX, default=0),
    )
    stop = fields.texts("stop", STOPS_MAX, STOP_CHARACTERS_MAX)
    sent = fields.wholes("sent", TOKENS_MAX)
    max_tokens = fields.whole("max_tokens", 1, TOKENS_MAX, default=256)
    if len(sent) > max_tokens:
        raise Malformed(f"{len(sent)} ids were sent, more than max_tokens = {max_tokens}")
    return Generate(
        fields.text("request", REQUEST_CHARACTERS_MAX, least=1),
        text=text,
        messages=messages if given == ["messages"] else None,
        tokens=fields.wholes("tokens", TOKENS_MAX) if given == ["tokens"] else None,
        max_tokens=max_tokens,
        sampling=sampling,
        stop=stop,
        sent=sent,
    )


def _message(fields: Fields) -> Mapping[str, str]:
    role = fields.text("role")
    if role not in ROLES:
        raise Malformed(f"a message's role is {role!r}: there are {', '.join(ROLES)}")
    return {"role": role, "content": fields.text("content", PROMPT_BYTES_MAX)}


def _load(fields: Fields) -> Load:
    model = fields.map("model")
    weights = model.texts("weights", 10_000, 4_096)
    job = dict(model.map("job").wire) if model.has("job") else None
    folder = model.text("folder", 4_096) if model.has("folder") else None
    if (job is None) == (folder is None) or (job is None) != (not weights):
        raise Malformed("a model is a job with its weights, or a folder")
    return Load(
        model.text("name", 200),
        fields.text("device", 200) if fields.has("device") else None,
        job=job,
        source_dir=model.text("source_dir", 4_096, default=""),
        weights=weights,
        folder=folder,
        memory_bytes=fields.whole("memory_bytes") if fields.has("memory_bytes") else None,
        streams=fields.whole("streams", 1, MESSAGES_MAX, default=16),
        waiting=fields.whole("waiting", 0, 1 << 20, default=256),
    )


def _ready(fields: Fields) -> Ready:
    model = fields.map("model")
    return Ready(
        model.text("name", 200),
        parameters=model.whole("parameters"),
        bytes=model.whole("bytes"),
        context=model.whole("context"),
        digest=model.text("digest", 200),
        streams=fields.whole("streams", 1, MESSAGES_MAX),
    )


def _pulse(fields: Fields) -> Pulse:
    usual_s = fields.number("usual_s", 0.0, 0.0, SECONDS_MAX) if fields.has("usual_s") else None
    return Pulse(fields.text("doing", 100), fields.number("for_s", 0.0, 0.0, SECONDS_MAX), usual_s)


def _stream(fields: Fields) -> Stream:
    request = fields.text("request", REQUEST_CHARACTERS_MAX, least=1)
    return Stream(request, fields.wholes("ids", TOKENS_MAX), fields.text("text"))


def _done(fields: Fields) -> Done:
    usage, reason = fields.map("usage"), fields.text("reason")
    if reason not in REASONS:
        raise Malformed(f"done for the reason {reason!r}")
    return Done(
        *(fields.text("request", REQUEST_CHARACTERS_MAX, least=1), reason),
        *(usage.whole("prompt_tokens"), usage.whole("completion_tokens")),
        fields.text("text", default=""),
        fields.text("error", SENTENCE_CHARACTERS_MAX) if fields.has("error") else None,
        fields.number("retry_s", 0.0, 0.0, 1e6) if fields.has("retry_s") else None,
    )
