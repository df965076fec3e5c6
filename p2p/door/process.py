"""The door's process: `python -m p2p.door.process`, started by p2p.door.keeper.

Its order is one line of JSON on stdin, so that neither token is in the list of processes.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import uvicorn

from p2p.client import Client
from p2p.door.app import build
from p2p.door.connections import Connection
from p2p.door.room import Room
from p2p.training.death import die_before_others, die_with
from p2p.wire.keys import parse_token

FINISH_WITHIN_S = 1  # what is being said when the peer leaves; then it hears why it ends
HEAR_WITHIN_S = 0.5
ASKED_WITHIN_S = 5.0


async def serve(order: Mapping[str, Any]) -> None:
    """Until SIGTERM."""
    client = Client(order["addresses"], parse_token(order["cluster_token"]), ASKED_WITHIN_S)
    config = uvicorn.Config(
        build(client, order["token"], Room()),
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # what clients do wrong is told to them, and fills no disk
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=order["backlog"],
        timeout_graceful_shutdown=FINISH_WITHIN_S,
    )
    server = _Server(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
    try:
        await server.serve([socket.socket(fileno=order["socket"])])
        if server.server_state.tasks:  # cancelled: they say so
            await asyncio.wait(server.server_state.tasks, timeout=HEAR_WITHIN_S)
    finally:
        await client.close()


class _Server(uvicorn.Server):
    """uvicorn's own way with SIGTERM ends the process before the last words are said."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    def end(self) -> None:
        self.should_exit = True


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the peer, which tells us
    line = sys.stdin.readline()
    if not line:
        return 1
    order = json.loads(line)
    die_with(order["peer_pid"])
    die_before_others()
    asyncio.run(serve(order))
    return 0


if __name__ == "__main__":
    sys.exit(main())
