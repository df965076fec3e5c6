"""Completions: from a request's body to the last byte of its answer, as an ASGI endpoint.

Tasks are asyncio's own: whoever leaves is noticed while the answer is waited for, and its
generation is then closed, which cancels it at the peer.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from p2p.door import told
from p2p.door.asked import Asked
from p2p.door.room import Room, Seat
from p2p.door.told import Answer, Problem
from p2p.errors import P2PError, Usage
from p2p.serving.checking import Malformed

if TYPE_CHECKING:
    from p2p.generation import Generation

BODY_WITHIN_S = 30.0
ANSWER_WITHIN_S = 600.0  # the usual patience of OpenAI's own client
LATER_S = 10.0  # the peer gives up after us, so that we say why
MODELS_WITHIN_S = 2.0
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold the pieces back
}
CLOSING = Problem(503, "this door is closing: ask another peer's", "closing")


class Asking(Protocol):
    """As p2p.client.Client is."""

    def generate(self, prompt: Any, **options: Any) -> "Generation": ...

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]: ...


class Completions:
    """`read` makes of a body what is asked. Raises nothing: what goes wrong is answered."""

    def __init__(
        self,
        client: Asking,
        room: Room,
        read: Callable[[object], Asked],
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._client, self._room, self._read, self._within_s = client, room, read, within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = _Reply(send)
        try:
            with self._room.seat() as seat:
                try:
                    asked = self._read(_parsed(await _body(receive, seat)))
                except Malformed as error:
                    raise Problem(400, str(error), "invalid_value") from error
                await _while_there(receive, self._answer(asked, reply))
        except Problem as problem:
            await reply.fail(problem)
        except asyncio.CancelledError:  # the process ends
            await reply.fail(CLOSING)
            raise

    async def _answer(self, asked: Asked, reply: "_Reply") -> None:
        prompt, options = asked.prompt, dict(asked.options)
        options |= {"timeout_s": self._within_s + LATER_S, "waits_when_busy": False}
        try:
            async with asyncio.timeout(self._within_s):
                generation = self._client.generate(prompt, model=asked.model, **options)
                pieces = aiter(generation)
                assert isinstance(pieces, AsyncGenerator)
                async with contextlib.aclosing(pieces):
                    await self._tell(asked, generation, pieces, reply)
        except TimeoutError:
            sentence = f"there was no whole answer within {self._within_s:g} s"
            raise Problem(504, sentence, "timeout") from None
        except P2PError as error:
            served = await self._served() if isinstance(error, Usage) else None
            raise told.failed(error, asked.model, served) from error

    async def _tell(
        self,
        asked: Asked,
        generation: "Generation",
        pieces: AsyncGenerator[str],
        reply: "_Reply",
    ) -> None:
        """Nothing is sent before the first piece: until then an error has a status of its own."""
        text = await anext(pieces, "")
        kind = "chatcmpl" if asked.is_chat else "cmpl"
        answer = Answer(
            f"{kind}-{uuid.uuid4().hex}",
            int(time.time()),
            str(generation.answering.get("model") or asked.model or ""),
            asked.is_chat,
            asked.wants_usage,
        )
        headers = {"x-request-id": answer.id, "x-p2p-seed": str(generation.seed)}
        if asked.is_streamed:
            await reply.begin(headers, [*answer.first(), *([answer.piece(text)] if text else [])])
            async for piece in pieces:
                await reply.go_on([answer.piece(piece)])
        else:
            text += "".join([piece async for piece in pieces])
        end = generation.end
        if end is None or end.reason not in ("stop", "length"):
            raise Problem(503, "the answer was cancelled at its peer: ask again", "cancelled")
        if asked.is_streamed:
            await reply.end(answer.last(end))
        else:
            await reply.all(answer.whole(text, end), headers)

    async def _served(self) -> list[str] | None:
        """What a prompt can be for; None = nobody says."""
        try:
            async with asyncio.timeout(MODELS_WITHIN_S):
                models = (await self._client.request("models"))["models"]
        except (P2PError, TimeoutError):
            return None
        return [name for each in models for name in (each["name"], each["id"])]


class _Reply:
    """One response: whole, or a stream of events, in which an error is the last."""

    def __init__(self, send: Send) -> None:
        self._send, self._is_begun, self._is_over = send, False, False

    async def all(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        await self._whole(200, body, headers)

    async def begin(self, headers: Mapping[str, str], events: list[dict[str, Any]]) -> None:
        self._is_begun = True
        pairs = {**STREAM_HEADERS, **headers}.items()
        raw = [(name.encode(), value.encode()) for name, value in pairs]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.go_on(events)

    async def go_on(self, events: list[dict[str, Any]]) -> None:
        if events:
            await self._write(b"".join(map(told.event, events)), more=True)

    async def end(self, events: list[dict[str, Any]]) -> None:
        await self._write(b"".join(map(told.event, events)) + told.DONE, more=False)

    async def fail(self, problem: Problem) -> None:
        if self._is_over:
            return
        if self._is_begun:
            await self._write(told.event(problem.body()), more=False)
        else:
            await self._whole(problem.status, problem.body(), problem.headers())

    async def _whole(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> None:
        self._is_over = True
        response = JSONResponse(body, status, {"cache-control": "no-store", **headers})
        start = {"type": "http.response.start", "status": status, "headers": response.raw_headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": response.body})

    async def _write(self, data: bytes, more: bool) -> None:
        self._is_over = not more
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


async def _body(receive: Receive, seat: Seat) -> bytes:
    """Raises Problem."""
    parts = []
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "the body is not complete", "incomplete")
                part = message.get("body", b"")
                seat.take(len(part))
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        sentence = f"the body did not come within {BODY_WITHIN_S:g} s"
        raise Problem(400, sentence, "incomplete") from None


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}"[:300], "not_json") from error
    except RecursionError:
        raise Problem(400, "the body is nested too deeply", "not_json") from None


async def _while_there(receive: Receive, answering: Coroutine[Any, Any, None]) -> None:
    """Until it is done, or its client has gone."""
    task = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait({task, gone})
    if not task.cancelled():
        task.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
