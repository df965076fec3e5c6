"""p2ptui --serve: the same screen in a browser of this machine, through textual-serve.

A browser sends requests of any page that its user visits to any address it can reach, this one
too. So: only a loopback address is listened at; everything lies below a secret path, made anew for
every server; `Host` must name a loopback address (or a name of somebody else could be made to point
here); a WebSocket must come from our own page (`Origin`). Each one has its own p2ptui, a child that
ends with it.
"""

import asyncio
import hmac
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.download_manager import DownloadManager

from p2p.errors import P2PError, Usage
from p2p.listen_at import in_url, is_loopback, parse
from tui.served_page import SCRIPT, page
from tui.served_screen import Screen

SCREENS_MAX = 8
MESSAGE_BYTES_MAX = 64 * 1024
HEARTBEAT_S = 15.0
CLOSE_WITHIN_S = 1.0  # until the page has said that it heard so
STATIC = Path(textual_serve.__file__).parent / "static"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def where(text: str) -> tuple[str, int]:
    """(host, port) of "[HOST:]PORT". Raises Usage for what is no loopback address."""
    host, port = parse(text, "--serve")
    if not is_loopback(host):
        raise Usage(
            f"--serve listens on this machine only, not at {host}: "
            f"from another one, ssh -L {port}:127.0.0.1:{port} leads to it"
        )
    return host, port


class Server:
    """`program` is what each browser gets. Raises P2PError if the port cannot be had."""

    def __init__(self, program: Sequence[str], host: str, port: int) -> None:
        self._program = program
        self._host, self._port = host, port
        self._token = secrets.token_urlsafe(24)
        self._downloads = DownloadManager()
        self._screens: set[asyncio.Task[Any]] = set()

    async def start(self) -> str:
        """Listen; returns the address to open."""
        app = web.Application(middlewares=[self._guard])
        prefix = "/{token}"
        app.router.add_get(prefix + "/", self._index)
        app.router.add_get(prefix + "/page.js", self._script)
        app.router.add_get(prefix + "/ws", self._websocket)
        app.router.add_get(prefix + "/static/{name:.+}", self._static)
        app.router.add_get("/download/{key}", self._download)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            why = error.strerror or str(error)
            raise P2PError(f"cannot serve at {self._host}:{self._port}: {why}") from error
        port = self._runner.addresses[0][1]
        return f"http://{in_url(self._host, port)}/{self._token}/"

    async def close(self) -> None:
        """All screens end, and are waited for."""
        for task in self._screens:
            task.cancel()
        await asyncio.gather(*self._screens, return_exceptions=True)
        await self._runner.cleanup()

    # -- who may -----------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        why = self._why_not(request)
        if why is not None:
            return web.Response(status=403, text=why + "\n", headers=HEADERS)
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _why_not(self, request: web.Request) -> str | None:
        host = request.host.rpartition(":")[0] or request.host
        if not is_loopback(host.strip("[]")):
            return "not under this name: open the address that p2ptui --serve printed"
        token = request.match_info.get("token", "")
        if "key" not in request.match_info and not _same(token, self._token):
            return "wrong token: open the address that p2ptui --serve printed"
        if request.path.endswith("/ws") and request.headers.get("Origin") != (
            f"http://{request.host}"
        ):
            return "another page may not open this screen"
        return None

    # -- what there is -----------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        text, policy = page(request.host, self._token)
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=SCRIPT, content_type="text/javascript")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        file = (STATIC / request.match_info["name"]).resolve()
        if not file.is_relative_to(STATIC.resolve()) or not file.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(file)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """A file that a screen exported. The way to it is given to its own page only, and once."""
        key = request.match_info["key"]
        try:
            found = await self._downloads.get_download_metadata(key)
        except KeyError:
            raise web.HTTPNotFound from None
        named = f'attachment; filename="{found.file_name}"'
        response = web.StreamResponse(headers={**HEADERS, "Content-Disposition": named})
        response.content_type = found.mime_type
        await response.prepare(request)
        async for chunk in self._downloads.download(key):
            await response.write(chunk)
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self._screens) >= SCREENS_MAX:
            told = f"{SCREENS_MAX} screens are open already: close one\n"
            return web.Response(status=503, text=told)
        task = asyncio.current_task()
        assert task is not None
        self._screens.add(task)
        try:
            return await self._screen(request)
        finally:
            self._screens.discard(task)

    async def _screen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX, timeout=CLOSE_WITHIN_S
        )
        await socket.prepare(request)
        screen = Screen(self._program, socket, self._downloads)
        try:
            await screen.open(request.query.get("width"), request.query.get("height"))
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await screen.obey(message.data)
        finally:
            await screen.stop()
            await socket.close()
        return socket


def _same(told: str, meant: str) -> bool:
    return hmac.compare_digest(told.encode(), meant.encode())


async def serve(arguments: Sequence[str], at: str, can_steer: bool) -> int:
    """Until a signal: 130 for Ctrl-C, 143 for SIGTERM and SIGHUP.

    `arguments` are those of the p2ptui that each browser gets.
    """
    program = [sys.executable, "-P", "-m", "tui.cli", "--served-by", str(os.getpid()), *arguments]
    server = Server(program, *where(at))
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)):
        asyncio.get_running_loop().add_signal_handler(number, end, code)
    address = await server.start()
    print(f"open {address}", flush=True)
    may = "steer the cluster" if can_steer else "only look (--read-write: steer, too)"
    print(f"whoever has this address can {may}; Ctrl-C ends it", flush=True)
    try:
        return await ended
    finally:
        await server.close()
