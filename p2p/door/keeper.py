"""The peer's side of its door: has the port, starts the process, and starts it again.

The peer listens and never accepts; its child does. So that the port is ours before the peer begins
anything, and a client that comes while the door is started again waits a moment, no more.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from p2p.endings import in_words, last_line
from p2p.errors import P2PError, Usage
from p2p.listen_at import in_url, is_loopback, parse
from p2p.wire.keys import ClusterKey

FLAG = "--http"
BACKLOG = 1_024
AGAIN_S, AGAIN_MAX_S = 0.5, 30.0
STEADY_S = 60.0  # whoever lived so long is started again at once
LEAVE_WITHIN_S = 3.0
TOKEN_CHARACTERS_MAX = 1_000


def given_token(file: str | None) -> str | None:
    """From --http-token-file, else $P2P_HTTP_TOKEN. Raises Usage."""
    if not file:
        return _checked(os.environ.get("P2P_HTTP_TOKEN"), "$P2P_HTTP_TOKEN")
    try:
        return _checked(Path(file).expanduser().read_text(), file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Usage(f"cannot read the door's token from {file}: {why}") from error


def _checked(text: str | None, source: str) -> str | None:
    if text is None:
        return None
    token = text.strip()
    ascii_only = token.isascii() and token.isprintable() and " " not in token
    if not token or not ascii_only or len(token) > TOKEN_CHARACTERS_MAX:
        raise Usage(f"{source} has no token: one word of up to {TOKEN_CHARACTERS_MAX} characters")
    return token


class Door:
    """Raises P2PError, before anything is begun, if the extra is missing or the port cannot be
    had; Usage if it is not one, or others than this machine could come in without a token.
    """

    def __init__(self, at: str, token: str | None) -> None:
        host, port = parse(at, FLAG)
        if token is None and not is_loopback(host):
            raise Usage(
                f"{FLAG} {at} lets other machines in: give them a token with --http-token-file "
                "FILE or $P2P_HTTP_TOKEN"
            )
        if find_spec("starlette") is None or find_spec("uvicorn") is None:
            raise P2PError(f"{FLAG} needs starlette and uvicorn: pip install 'p2pnode[http]'")
        self._token = token
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror  # < 0: no such host
            sentence = f"cannot open a door at {in_url(host, port)} ({why}): give another {FLAG}"
            raise P2PError(sentence) from error
        self.url = f"http://{in_url(host, self._socket.getsockname()[1])}/v1"
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(
        self, addresses: Sequence[str], key: ClusterKey, log: Path, say: Callable[[str], None]
    ) -> None:
        """From the thread that lives as long as the peer: with it the child ends."""
        order = {
            "addresses": list(addresses),
            "cluster_token": key.token,
            "token": self._token,
            "socket": self._socket.fileno(),
            "backlog": BACKLOG,
            "peer_pid": os.getpid(),
        }
        self._keeping = asyncio.ensure_future(self._keep(json.dumps(order) + "\n", log, say))

    async def _keep(self, order: str, log: Path, say: Callable[[str], None]) -> None:
        again_s = AGAIN_S
        while True:
            began_s = time.monotonic()
            how = await self._live(order, log)
            steady = time.monotonic() - began_s >= STEADY_S
            again_s = AGAIN_S if steady else again_s
            say(f"the HTTP door ended ({how}): it is started again in {again_s:g} s")
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, AGAIN_MAX_S)

    async def _live(self, order: str, log: Path) -> str:
        """One process, from its start to its end; how that was."""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "p2p.door.process"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=[self._socket.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode())
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()
        code = await self._process.wait()
        ended = in_words(code, -code if code < 0 else None)
        return ended if code < 0 else f"{ended}: {last_line(log)}"

    async def leave(self) -> None:
        """Nobody else comes in; who is in may hear the end, for a moment."""
        self._socket.close()
        if self._keeping is not None:
            self._keeping.cancel()
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LEAVE_WITHIN_S)

    def close(self) -> None:
        """At once."""
        self._socket.close()
        if self._keeping is not None:
            self._keeping.cancel()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
