"""The door's routes."""

import asyncio
import sys
import traceback
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from p2p.door import asked, gate, told
from p2p.door.answering import ANSWER_WITHIN_S, Asking, Completions
from p2p.door.room import Room
from p2p.door.told import Problem
from p2p.errors import P2PError


def build(
    client: Asking, token: str | None, room: Room, within_s: float = ANSWER_WITHIN_S
) -> ASGIApp:
    """`token` None: whoever is on this machine may come in."""
    door = _Door(client)
    completions = Completions(client, room, asked.completion, within_s)
    chat = Completions(client, room, asked.chat, within_s)
    app = Starlette(
        routes=[
            Route("/health", door.health),
            Route("/v1/models", door.models),
            Route("/v1/models/{model:path}", door.model),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _no_such,
            Problem: _problem,
            P2PError: _failed,
            Exception: _broken,
        },
    )
    app.router.redirect_slashes = False
    return Gate(app, token)


class Gate:
    """Nobody gets past without the token, whatever the path."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            gate.check(scope["path"], Headers(scope=scope), self._token)
        except Problem as problem:
            await _response(problem)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Door:
    def __init__(self, client: Asking) -> None:
        self._client = client
        self._looking: asyncio.Task[str | None] | None = None

    async def health(self, request: Request) -> Response:
        """Those who ask at the same time share one look: they need no token."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._why_unwell())
        why = await asyncio.shield(self._looking)
        if why is not None:
            raise Problem(503, why, "unavailable")
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        return JSONResponse(told.models(await self._served()))

    async def model(self, request: Request) -> Response:
        return JSONResponse(told.model(await self._served(), request.path_params["model"]))

    async def _why_unwell(self) -> str | None:
        try:
            return told.why_unwell(await self._client.request("status"), await self._served())
        except P2PError:  # its sentence may name peers, and anybody may ask
            return told.NO_ANSWER

    async def _served(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = (await self._client.request("models"))["models"]
        return models


def _response(problem: Problem) -> Response:
    return JSONResponse(problem.body(), problem.status, problem.headers())


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _response(error)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, P2PError)
    return _response(told.failed(error, None, None))


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 405:
        return _response(Problem(405, f"{method} is not for {path[:100]}", "method_not_allowed"))
    sentence = (
        f"there is no {path[:100]} here: there are /v1/models, /v1/completions, "
        "/v1/chat/completions and /health"
    )
    return _response(Problem(error.status_code, sentence, "not_found"))


async def _broken(request: Request, error: Exception) -> Response:
    """A mistake of ours: the log of the door has it."""
    traceback.print_exception(error, file=sys.stderr)
    return _response(Problem(500, "the door failed at this request: its log says why", "failed"))
