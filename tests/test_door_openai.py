"""OpenAI's JSON, in and out, and who may come in: tables."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.door import asked, gate, told
from p2p.door.told import Answer, Problem
from p2p.errors import Busy, NoQuorum, P2PError, Usage
from p2p.generation import OPTIONS, End
from p2p.serving.checking import Malformed

HI = {"role": "user", "content": "hi"}
HEAD = {"id": "x", "object": "text_completion", "created": 7, "model": "tales"}
END = End("stop", "tales", "name-a", "r1", 3, 2, 0.5, 0)


def of_chat(**fields: Any) -> asked.Asked:
    return asked.chat({"model": "m", "messages": [HI], **fields})


@pytest.mark.parametrize(
    ("prompt", "meant"),
    [
        ("def", "def"),
        (["def"], "def"),
        ("", ""),
        ([1, 2], [1, 2]),
        ([7], [7]),
        ([[1, 2]], [1, 2]),
    ],
)
def test_a_prompt_is_a_text_or_ids(prompt: Any, meant: Any) -> None:
    assert asked.completion({"prompt": prompt}).prompt == meant


@pytest.mark.parametrize(
    ("messages", "meant"),
    [
        ([HI], [HI]),
        ([{"role": "developer", "content": "x"}, HI], [{"role": "system", "content": "x"}, HI]),
        ([{**HI, "name": "Ann", "tool_calls": None}], [HI]),
        (
            [{"role": "user", "content": [{"type": "text", "text": t} for t in ("h", "i")]}],
            [HI],
        ),
    ],
)
def test_messages_are_texts(messages: Any, meant: Any) -> None:
    found = asked.chat({"messages": messages})
    assert (found.prompt, found.is_chat, found.model) == (meant, True, None)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"temperature": 1, "top_p": 0.5, "seed": 3}, {"temperature": 1, "top_p": 0.5, "seed": 3}),
        ({"top_k": 4, "max_tokens": 5}, {"top_k": 4, "max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "a"}, {"stop": ["a"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop": None, "seed": None, "temperature": None, "n": None}, {}),
        ({"n": 1, "logprobs": False, "tools": [], "presence_penalty": 0.0, "store": True}, {}),
        ({"response_format": {"type": "text"}, "tool_choice": "auto", "logit_bias": {}}, {}),
    ],
)
def test_options_are_those_of_generate(fields: dict[str, Any], options: dict[str, Any]) -> None:
    assert of_chat(**fields).options == options
    assert set(options) <= set(OPTIONS)


def test_a_user_is_a_conversation() -> None:
    one, same, other = (of_chat(user=user).options for user in ("ann", "ann", "bob"))
    assert one == same != other
    assert of_chat(user="bob", prompt_cache_key="ann").options == one
    assert len(one["conversation"]) == 32


def test_streams() -> None:
    plain = of_chat()
    assert (plain.is_streamed, plain.wants_usage) == (False, False)
    assert of_chat(stream=True).is_streamed
    assert of_chat(stream=True, stream_options={"include_usage": True}).wants_usage
    assert not of_chat(stream=True, stream_options={}).wants_usage


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": -1}, "max_tokens is -1: it must be a whole number from 1"),
        ({"max_tokens": "5"}, "max_tokens is '5'"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "differ"),
        ({"temperature": "hot"}, "temperature is 'hot': it must be a number"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": True}, "temperature is True"),
        ({"top_p": 2}, "top_p is 2"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": ["a"] * 5}, "stop has 5 entries: 4 may be"),
        ({"stop": 7}, "stop is not a list"),
        ({"stop": [""]}, "stop has 0 characters"),
        ({"n": 2}, "n is 2: only 1 is possible, as one answer is given per request"),
        ({"n": True}, "n is True"),
        ({"logprobs": True}, "a replica tells no log probabilities"),
        ({"top_logprobs": 3}, "a replica tells no log probabilities"),
        ({"tools": [{"type": "function"}]}, "tools is"),
        ({"response_format": {"type": "json_object"}}, "response_format is"),
        ({"presence_penalty": 0.5}, "presence_penalty is 0.5: only 0"),
        ({"audio": {}}, "audio is {}: only null"),
        ({"stream": "yes"}, "stream is 'yes': it must be true or false"),
        ({"stream_options": {}}, "is for a stream"),
        ({"stream": True, "stream_options": {"x": 1}}, "include_usage only"),
        ({"stream": True, "stream_options": 1}, "stream_options is not a map"),
        ({"model": 3}, "model is not a text"),
        ({"model": "x" * 301}, "model has 301 characters"),
        ({"user": 3}, "user is not a text"),
        ({"temprature": 1}, "there is no field 'temprature' here"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hi"}, "must be a list"),
        ({"messages": [3]}, "a message is not a map"),
        ({"messages": [{"role": "user"}]}, "content must be a text"),
        ({"messages": [{"role": "god", "content": "x"}]}, "role is 'god'"),
        ({"messages": [{"content": "x"}]}, "role is not a text"),
        ({"messages": [{**HI, "tool_calls": [{}]}]}, "a message has tool_calls"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "of type 'image_url': only text",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "not valid Unicode"),
    ],
)
def test_what_cannot_be_is_a_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed) as problem:
        of_chat(**fields)
    assert said in str(problem.value)


@pytest.mark.parametrize("prompt", [None, 5, [], ["a", "b"], [[1], [2]], [1, "a"], [-1], [1.5], {}])
def test_what_is_no_prompt(prompt: Any) -> None:
    with pytest.raises(Malformed):
        asked.completion({"prompt": prompt})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(asked.KNOWN | {"prompt", "messages", "max_completion_tokens"}))


@given(st.one_of(JSON, st.dictionaries(NAMES, JSON, max_size=4)))
def test_garbage_is_malformed_or_understood(body: Any) -> None:
    for read in (asked.completion, asked.chat):
        try:
            found = read(body)
        except Malformed:
            continue
        assert set(found.options) <= set(OPTIONS)


# -- out ------------------------------------------------------------------------------------------


def test_answers_have_openais_shape() -> None:
    answer = Answer("x", 7, "tales", is_chat=False)
    assert answer.whole("ab", END) == {
        **HEAD,
        "choices": [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    chat = Answer("chatcmpl-1", 7, "tales", is_chat=True).whole("ab", END)
    assert chat["object"] == "chat.completion"
    assert chat["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("has_usage", [False, True])
def test_streams_have_openais_shape(has_usage: bool) -> None:
    answer = Answer("x", 7, "tales", is_chat=True, has_usage=has_usage)
    chunks = [*answer.first(), answer.piece("ab"), *answer.last(END)]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [{"role": "assistant", "content": ""}, {"content": "ab"}, {}]
    assert [choice["delta"] for choice in choices] == deltas
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    usages = [chunk.get("usage", "none") for chunk in chunks]
    assert usages == ([None, None, None, told.usage(END)] if has_usage else ["none"] * 3)
    text = Answer("x", 7, "tales", is_chat=False)
    assert [*text.first(), text.piece("a")] == [
        {
            **HEAD,
            "choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}],
        }
    ]
    assert told.event({"a": "\n"}) == b'data: {"a":"\\n"}\n\n'


def busy(retry_s: float) -> Busy:
    error = Busy("busy")
    error.retry_s = retry_s
    return error


@pytest.mark.parametrize(
    ("error", "model", "status", "code"),
    [
        (Usage("no model 'x' is served"), "x", 404, "model_not_found"),
        (Usage("the prompt is empty"), "tales", 400, "invalid_value"),
        (Usage("say which model"), None, 400, "invalid_value"),
        (NoQuorum("no leader"), "tales", 503, "unavailable"),
        (P2PError("it is served no more"), "tales", 503, "unavailable"),
        (busy(2.4), "tales", 429, "busy"),
    ],
)
def test_errors_have_a_status(error: P2PError, model: str | None, status: int, code: str) -> None:
    problem = told.failed(error, model, ["tales", "serve-1"])
    assert problem.status == status
    body = problem.body()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert (body["message"], body["code"]) == (str(error), code)
    assert ("retry-after" in problem.headers()) == (status == 429)


def test_when_to_come_again_is_a_whole_second_at_least() -> None:
    found = [told.failed(busy(s), None, None).headers()["retry-after"] for s in (0.1, 2.4, 60)]
    assert found == ["1", "2", "60"]


def test_models_are_known_by_their_names() -> None:
    served = [{"id": "serve-1", "name": "tales"}]
    [one] = told.models(served)["data"]
    assert one["id"] == "tales"
    assert told.model(served, "serve-1")["id"] == "serve-1"
    with pytest.raises(Problem, match="there are tales") as problem:
        told.model(served, "x")
    assert problem.value.status == 404


def test_health_is_whether_a_replica_can_answer() -> None:
    status = {"peers": [{"id": "a", "state": "alive"}], "cluster": {"quorum": True}}
    on_a = [{"name": "tales", "replicas": [{"peer": "a"}]}]
    assert told.why_unwell(status, on_a) is None
    assert told.why_unwell({**status, "cluster": {"quorum": False}}, on_a) is None
    for others, models, said in (
        ({}, [], "no model is served"),
        ({}, [{"name": "tales", "replicas": []}], "`p2pnode models` shows why"),
        ({"peers": [{"id": "a", "state": "dead"}]}, on_a, "`p2pnode models` shows why"),
        ({"cluster": {"quorum": False}}, [], "too few peers"),
    ):
        why = told.why_unwell({**status, **others}, models)
        assert why is not None
        assert said in why
        assert "tales" not in why, "anybody may ask"
    assert json.dumps(status)


# -- who may come in ------------------------------------------------------------------------------

TOKEN = "secret-1"


@pytest.mark.parametrize(
    ("path", "headers", "token", "status"),
    [
        ("/v1/models", {"authorization": "Bearer secret-1"}, TOKEN, 200),
        ("/v1/models", {"authorization": "bearer  secret-1 ", "host": "evil"}, TOKEN, 200),
        ("/v1/models", {}, TOKEN, 401),
        ("/v1/models", {"authorization": "Basic secret-1"}, TOKEN, 401),
        ("/v1/models", {"authorization": "Bearer secret-2"}, TOKEN, 401),
        ("/v1/models", {"authorization": "Bearer \xff"}, TOKEN, 401),
        ("/v1/models", {"authorization": "Bearer "}, TOKEN, 401),
        ("/elsewhere", {}, TOKEN, 401),
        ("/health", {}, TOKEN, 200),
        ("/v1/models", {"host": "127.0.0.1:8000"}, None, 200),
        ("/v1/models", {"host": "localhost"}, None, 200),
        ("/v1/models", {"host": "[::1]:8000"}, None, 200),
        ("/v1/models", {"host": "[::1]"}, None, 200),
        ("/v1/models", {"host": "evil.example:8000"}, None, 403),
        ("/health", {"host": "evil.example"}, None, 403),
        ("/v1/models", {}, None, 403),
        ("/v1/models", {"host": "localhost", "origin": "http://localhost:3000"}, None, 200),
        ("/v1/models", {"host": "localhost", "origin": "https://evil.example"}, None, 403),
        ("/v1/models", {"host": "localhost", "origin": "null"}, None, 403),
        ("/v1/models", {"host": "localhost", "origin": "http://[x"}, None, 403),
    ],
)
def test_who_may_come_in(
    path: str, headers: dict[str, str], token: str | None, status: int
) -> None:
    if status == 200:
        gate.check(path, headers, token)
        return
    with pytest.raises(Problem) as refused:
        gate.check(path, headers, token)
    assert refused.value.status == status
    assert TOKEN not in str(refused.value)
    assert ("www-authenticate" in refused.value.headers()) == (status == 401)
