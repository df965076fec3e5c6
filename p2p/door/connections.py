"""Connections of the door: uvicorn's, with bounds on how many and how slow they may be."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2p.door.told import Problem

CONNECTIONS_MAX = 512
HEAD_WITHIN_S = 15.0  # after this, or twice this, a connection without a request is closed
UNREAD_MAX_S = 60.0  # so long a client may read nothing, as at a peer
TOO_MANY = Problem(429, f"{CONNECTIONS_MAX} connections are open: retry after 1 s", "busy", 1.0)
NOT_HTTP = Problem(400, "that is not HTTP", "not_http")


class Connection(H11Protocol):
    _patience: asyncio.TimerHandle | None = None
    _idle_cycle: object = object()
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._is_one_too_many = len(self.connections) > CONNECTIONS_MAX
        self._patience = self.loop.call_later(HEAD_WITHIN_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_one_too_many:
            self._refuse(TOO_MANY)
        else:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        self._refuse(NOT_HTTP)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_MAX_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _look(self) -> None:
        """Twice without a request in between: whoever sends one byte a minute is not waited for."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and (self.cycle is None or self.cycle is self._idle_cycle):
            self.transport.abort()
            return
        self._idle_cycle = self.cycle if is_idle else object()
        self._patience = self.loop.call_later(HEAD_WITHIN_S, self._look)

    def _refuse(self, problem: Problem) -> None:
        body = json.dumps(problem.body()).encode()
        headers: Any = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **problem.headers(),
        }
        reason = HTTPStatus(problem.status).phrase.encode()
        status, pairs = problem.status, list(headers.items())
        response = h11.Response(status_code=status, headers=pairs, reason=reason)
        try:
            events = (response, h11.Data(data=body), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:  # in the middle of an answer
            self.transport.abort()
        else:
            self.transport.close()
