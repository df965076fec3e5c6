"""One browser's screen: a p2ptui of its own, which draws into the page's WebSocket."""

import asyncio
import contextlib
import json
import shlex
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

LEAVE_WITHIN_S = 2.0
COLUMNS, ROWS = (20, 500), (5, 200)


class Screen(AppService):
    """Without a shell between us, and gone when we say so."""

    def __init__(
        self, program: Sequence[str], socket: web.WebSocketResponse, downloads: DownloadManager
    ) -> None:
        async def close() -> None:
            await socket.close()

        super().__init__(
            shlex.join(program),
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=close,
            download_manager=downloads,
        )
        self._program, self._socket = program, socket

    async def open(self, width: object, height: object) -> None:
        await self.start(_within(width, COLUMNS), _within(height, ROWS))

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        environment = self._build_environment(width=width, height=height)
        self._process = await asyncio.create_subprocess_exec(
            *self._program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
        )
        self._stdin = self._process.stdin
        return self._process

    async def stop(self) -> None:
        """Ask it to leave; kill it if it does not, for instance because nobody reads it."""
        process = self._process
        if process is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(super().stop(), LEAVE_WITHIN_S)
        finally:  # a server that ends, too, while this is under way, waits for it
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def obey(self, text: str) -> None:
        """A message of the page; what is none is passed over."""
        try:
            kind, *rest = json.loads(text)
        except (ValueError, TypeError):
            return
        told = rest[0] if rest else None
        if kind == "stdin" and isinstance(told, str):
            await self.send_bytes(told.encode())
        elif kind == "resize" and isinstance(told, dict):
            width, height = _within(told.get("width"), COLUMNS), _within(told.get("height"), ROWS)
            await self.set_terminal_size(width, height)
        elif kind == "ping":
            await self._socket.send_json(["pong", told])
        elif kind in ("blur", "focus"):
            await (self.blur() if kind == "blur" else self.focus())


def _within(told: object, limits: tuple[int, int]) -> int:
    least, most = limits
    try:
        return max(least, min(most, int(told)))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return least
