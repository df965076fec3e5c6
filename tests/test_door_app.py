"""The door's routes in this process, with a client that is played: whole answers, streams, errors,
clients that leave or send nothing, and bounds."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import ASGIApp

from p2p.door import answering
from p2p.door.app import build
from p2p.door.room import Room
from p2p.door.told import NO_ANSWER
from p2p.errors import Busy, NoQuorum, P2PError, Unreachable, Usage
from p2p.generation import End

END = End("length", "tales", "name-a", "r1", 3, 2, 0.5, 0)
SERVED = {"models": [{"id": "serve-1", "name": "tales", "replicas": [{"peer": "a"}]}]}
STATUS = {"peers": [{"id": "a", "state": "alive"}], "cluster": {"quorum": True}}
PROMPT = {"model": "tales", "prompt": "x"}
CHAT = {"model": "tales", "messages": [{"role": "user", "content": "x"}]}
WAITS = 10.0
NEVER = object()


class Played:
    """An answer: its pieces, of which an error is raised; NEVER is waited for."""

    seed = 7

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces
        self.end: End | None = END
        self.answering = {"model": "tales"}
        self.is_closed = False

    async def __aiter__(self) -> AsyncGenerator[str]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                if piece is NEVER:
                    await asyncio.Event().wait()
                else:
                    yield piece
        finally:
            self.is_closed = True


class PlayedClient:
    def __init__(self, *pieces: Any) -> None:
        self.answer, self.asked = Played(list(pieces)), list[Any]()
        self.told: dict[str, Any] = {"models": SERVED, "status": STATUS}

    def generate(self, prompt: Any, **options: Any) -> Any:
        self.asked.append((prompt, options))
        return self.answer

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        told = self.told[verb]
        if isinstance(told, Exception):
            raise told
        return dict(told)


@dataclass
class Caller:
    """One request to the app. `leave` is the client's end of the connection going."""

    app: ASGIApp
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(
        self, path: str, parts: list[bytes], method: str = "POST", **headers: str
    ) -> "Caller":
        given = {"host": "localhost", **headers}.items()
        raw = [(name.encode(), value.encode()) for name, value in given]
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
        }
        scope["headers"] = raw
        waiting = list(parts)

        async def receive() -> dict[str, Any]:
            if waiting:
                body = waiting.pop(0)
                return {"type": "http.request", "body": body, "more_body": bool(waiting)}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        await asyncio.wait_for(self.app(scope, receive, self._send), WAITS)
        return self

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert not self.is_whole
        self.body += message["body"]
        self.is_whole = not message.get("more_body", False)
        self.heard.set()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return str(self.json["error"]["code"])

    @property
    def events(self) -> list[Any]:
        """Of a stream, "[DONE]" as it is."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        told = [line.removeprefix("data: ") for line in lines]
        return [one if one == "[DONE]" else json.loads(one) for one in told]


def ask(
    client: PlayedClient,
    body: Any,
    path: str = "/v1/completions",
    room: Room | None = None,
    within_s: float = WAITS,
    **given: Any,
) -> Caller:
    parts = body if isinstance(body, list) else [json.dumps(body).encode()]
    app = build(client, given.pop("token", None), room or Room(), within_s)
    return run(lambda: Caller(app).ask(path, parts, **given))


def run(main: Callable[[], Coroutine[Any, Any, Caller]]) -> Caller:
    return asyncio.run(main())


def test_a_completion() -> None:
    client = PlayedClient("Once ", "more")
    told = ask(client, {**PROMPT, "seed": 7, "stop": "x"})
    assert (told.status, told.is_whole) == (200, True)
    [choice] = told.json["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Once more", "length")
    assert told.json["usage"]["total_tokens"] == 5
    assert told.headers["x-p2p-seed"] == "7"
    assert told.headers["x-request-id"] == told.json["id"]
    [(prompt, options)] = client.asked
    assert (prompt, options["model"], options["stop"]) == ("x", "tales", ["x"])
    assert options["waits_when_busy"] is False
    empty = ask(PlayedClient(), PROMPT)
    assert empty.json["choices"][0]["text"] == ""


def test_a_chat_is_streamed() -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    told = ask(PlayedClient("Once ", "more"), body, "/v1/chat/completions")
    assert told.headers["content-type"].startswith("text/event-stream")
    *chunks, done = told.events
    assert (done, told.is_whole) == ("[DONE]", True)
    texts = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert texts == ["", "Once ", "more", ""]
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    empty = ask(PlayedClient(), {**PROMPT, "stream": True})
    assert [type(each) for each in empty.events] == [dict, str]


def test_what_goes_wrong_in_a_stream_is_its_last_event() -> None:
    told = ask(PlayedClient("a", P2PError("gone")), {**PROMPT, "stream": True})
    assert told.status == 200
    assert [event.get("error", {}).get("message") for event in told.events] == [None, "gone"]
    assert told.is_whole
    never = ask(PlayedClient("a", NEVER), {**PROMPT, "stream": True}, within_s=0.01)
    assert never.events[-1]["error"]["code"] == "timeout"


def busy() -> Busy:
    error = Busy("busy, retry after 3 s")
    error.retry_s = 3
    return error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("problem", "fields", "status", "code"),
    [
        (busy(), {}, 429, "busy"),
        (NoQuorum("no leader"), {}, 503, "unavailable"),
        (Usage("no model 'x' is served"), {"model": "x"}, 404, "model_not_found"),
        (Usage("the prompt is empty"), {}, 400, "invalid_value"),
        (NEVER, {}, 504, "timeout"),
    ],
)
def test_errors_before_the_first_piece(
    problem: Any, fields: dict[str, Any], status: int, code: str, stream: bool
) -> None:
    client = PlayedClient(problem)
    told = ask(client, {**PROMPT, **fields, "stream": stream}, within_s=0.01)
    assert (told.status, told.code) == (status, code)
    assert told.headers.get("retry-after") == ("3" if status == 429 else None)
    assert client.answer.is_closed


def test_a_cancelled_answer_is_none() -> None:
    client = PlayedClient("a")
    client.answer.end = None
    assert ask(client, PROMPT).status == 503


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([b"{"], "not_json"),
        ([b""], "not_json"),
        ([b"\xff\xfe"], "not_json"),
        ([b"[" * 100_000], "not_json"),
        ([b"1" * 5_000], "not_json"),
        ([b"[]"], "invalid_value"),
        ([b'{"prompt": "a", "max_tokens": -1}'], "invalid_value"),
        ([b"x" * 1_000_000] * 5, "too_large"),
    ],
)
def test_garbage_is_told_what_it_is(body: list[bytes], code: str) -> None:
    client, room = PlayedClient("a"), Room()
    before = (room.requests, room.bytes)
    told = ask(client, body, room=room)
    assert (told.status, told.code) == (400, code)
    assert not client.asked
    assert (room.requests, room.bytes) == before


def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "BODY_WITHIN_S", 0.01)
    app = build(PlayedClient(), None, Room())

    async def never(leaves: bool) -> Caller:
        caller = Caller(app)
        if leaves:
            caller.leave.set()
        return await caller.ask("/v1/completions", [])

    assert run(lambda: never(leaves=False)).code == "incomplete"
    assert run(lambda: never(leaves=True)).code == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_is_not_answered_on(stream: bool) -> None:
    client = PlayedClient("a", NEVER)
    room = Room()

    async def main() -> Caller:
        caller = Caller(build(client, None, room))
        body = json.dumps({**PROMPT, "stream": stream}).encode()
        asking = asyncio.ensure_future(caller.ask("/v1/completions", [body]))
        if stream:
            await asyncio.wait_for(caller.heard.wait(), WAITS)
        while not client.asked:
            await asyncio.sleep(0)
        caller.leave.set()
        return await asking

    run(main)
    assert client.answer.is_closed
    assert room.requests == Room().requests


@pytest.mark.parametrize("stream", [False, True])
def test_who_is_in_hears_that_the_door_closes(stream: bool) -> None:
    client = PlayedClient(*(["a"] if stream else []), NEVER)

    async def main() -> Caller:
        caller = Caller(build(client, None, Room()))
        body = json.dumps({**PROMPT, "stream": stream}).encode()
        asking = asyncio.ensure_future(caller.ask("/v1/completions", [body]))
        while not (caller.heard.is_set() if stream else client.asked):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        return caller

    told = run(main)
    error = told.events[-1]["error"] if stream else told.json["error"]
    assert error["code"] == "closing"
    assert told.is_whole
    assert client.answer.is_closed


def test_more_than_there_is_room_for_come_again() -> None:
    assert ask(PlayedClient("a"), PROMPT, room=Room(requests=0)).headers["retry-after"] == "1"
    assert ask(PlayedClient("a"), PROMPT, room=Room(bytes_=5)).status == 429
    room = Room(requests=1)
    assert [ask(PlayedClient("a"), PROMPT, room=room).status for _ in range(2)] == [200, 200]


def test_models_and_health() -> None:
    client = PlayedClient()
    models = ask(client, [b""], "/v1/models", method="GET")
    assert [model["id"] for model in models.json["data"]] == ["tales"]
    assert ask(client, [b""], "/v1/models/tales", method="GET").json["object"] == "model"
    assert ask(client, [b""], "/v1/models/a/b", method="GET").code == "model_not_found"
    assert ask(client, [b""], "/health", method="GET").json == {"status": "ok"}
    client.told["models"] = {"models": []}
    unwell = ask(client, [b""], "/health", method="GET")
    assert (unwell.status, unwell.code) == (503, "unavailable")
    client.told["status"] = Unreachable("no peer answers at 10.0.0.5:7700")
    client.told["models"] = NoQuorum("no leader")
    unwell = ask(client, [b""], "/health", method="GET", token="t")  # a stranger may ask that
    assert (unwell.status, unwell.json["error"]["message"]) == (503, NO_ANSWER)
    assert ask(client, [b""], "/v1/models", method="GET").status == 503


def test_the_gate_is_before_everything() -> None:
    assert ask(PlayedClient("a"), PROMPT, token="t").code == "no_api_key"
    wrong = ask(PlayedClient("a"), PROMPT, token="t", authorization="Bearer u")
    assert (wrong.status, wrong.code) == (401, "invalid_api_key")
    assert ask(PlayedClient("a"), PROMPT, "/nowhere", token="t").status == 401
    assert ask(PlayedClient("a"), PROMPT, token="t", authorization="Bearer t").status == 200
    assert ask(PlayedClient("a"), PROMPT, host="evil.example").status == 403


def test_other_paths_and_methods_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = ask(PlayedClient(), PROMPT, "/v1/embeddings")
    assert (nowhere.status, nowhere.code) == (404, "not_found")
    assert "/v1/chat/completions" in nowhere.json["error"]["message"]
    assert ask(PlayedClient(), [b""], "/v1/completions", method="GET").status == 405
    assert ask(PlayedClient(), [b""], "/v1/models/", method="GET").status == 404
    assert ask(PlayedClient(), [b""], "/v1/models", method="DELETE").status == 405
    broken = PlayedClient()
    broken.told["models"] = ValueError("a mistake of ours")
    with pytest.raises(ValueError, match="a mistake of ours"):
        ask(broken, [b""], "/v1/models", method="GET")
    assert "a mistake of ours" in capsys.readouterr().err
