"""p2ptui --serve: who gets a screen, that it is one, and that nothing is left of it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from p2p.errors import P2PError, Usage
from tui import cli
from tui.serve import Server, where

PATIENCE_S = 30.0


@dataclass
class Served:
    """A server as a process. `at` is its host and port, `page` the secret address."""

    process: "subprocess.Popen[str]"
    page: str
    said: str

    @property
    def at(self) -> str:
        return self.page.split("/")[2]

    def screens(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Without a cluster: the screens say that they look for one."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "run").mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("P2P_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tui.cli", "--serve", "0", "127.0.0.1:1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**kept, "P2P_RUNTIME_DIR": str(folder / "run"), "XDG_CONFIG_HOME": str(folder)},
    )
    assert process.stdout is not None
    try:
        page = process.stdout.readline().split()[-1]
        yield Served(process, page, process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def with_session(act: Callable[[ClientSession], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with ClientSession() as session:
            await asyncio.wait_for(act(session), PATIENCE_S)

    asyncio.run(run())


async def opened(
    session: ClientSession, served: Served, origin: str | None = None
) -> ClientWebSocketResponse:
    headers = {"Origin": f"http://{served.at}" if origin is None else origin}
    return await session.ws_connect(f"{served.page}ws?width=100&height=30", headers=headers)


async def until(socket: ClientWebSocketResponse, wanted: bytes) -> bytes:
    """What the page gets to draw, up to these bytes."""
    seen = b""
    while wanted not in seen:
        message = await socket.receive()
        assert message.type in (WSMsgType.BINARY, WSMsgType.TEXT), (message, seen[-500:])
        seen += message.data if message.type is WSMsgType.BINARY else b""
    return seen


def test_only_its_own_page_gets_a_screen(served: Served) -> None:
    async def act(session: ClientSession) -> None:
        wrong = served.page.replace(served.page.split("/")[3], "x" * 32)
        for address in (wrong, f"http://{served.at}/", f"{wrong}page.js"):
            async with session.get(address) as answer:
                assert answer.status in (403, 404), address
                assert "<html" not in await answer.text()
        async with session.get(served.page, headers={"Host": "evil.example:80"}) as answer:
            assert answer.status == 403
            assert "not under this name" in await answer.text()
        async with session.get(f"{served.page}static/..%2f..%2fserver.py") as answer:
            assert answer.status == 404
        for page, origin in (
            (wrong, f"http://{served.at}"),
            (served.page, "https://evil.example"),
            (served.page, "http://127.0.0.1:1"),
            (served.page, "null"),
            (served.page, ""),
        ):
            with pytest.raises(WSServerHandshakeError) as refused:
                await session.ws_connect(f"{page}ws", headers={"Origin": origin} if origin else {})
            assert refused.value.status == 403, (page, origin)
        assert not served.screens()
        with pytest.raises(P2PError, match=r"cannot serve at 127\.0\.0\.1"):
            await Server([], "127.0.0.1", int(served.at.split(":")[1])).start()

    with_session(act)


def test_the_page_brings_all_it_needs(served: Served) -> None:
    async def act(session: ClientSession) -> None:
        async with session.get(served.page) as answer:
            page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert f"ws://{served.at}/" in page
        assert "default-src 'none'" in policy
        assert not re.findall(r"https?://", page)
        assert re.findall(r'<script src="([^"]+)"', page) == ["page.js"]
        async with session.get(served.page + "page.js") as answer:
            assert answer.content_type == "text/javascript"
            script = await answer.text()
        # As seen in a browser: made before its font is there, or without the keyboard, it is wrong.
        assert script.index("fonts.load(") < script.index("static/js/textual.js")
        assert ".focus()" in script
        for name in re.findall(r'["(]"?(static/[^")]+)', page + script):
            async with session.get(served.page + name) as answer:
                assert answer.status == 200, name

    with_session(act)


def test_a_screen_is_shown_obeys_and_ends_with_its_program(served: Served) -> None:
    async def act(session: ClientSession) -> None:
        async with await opened(session, served) as socket:
            await until(socket, b"127.0.0.1:1: attempt")
            [screen] = served.screens()
            for nonsense in ("[]", "{", '["resize", 7]', '["resize", {"width": 1e99}]', "[1, 2]"):
                await socket.send_str(nonsense)
            await socket.send_str('["resize", {"width": 30, "height": 10}]')
            await until(socket, b"this terminal is 30x10")
            await socket.send_str('["resize", {"width": 100, "height": 30}]')
            await socket.send_str('["stdin", "S"]')
            await until(socket, b"start p2ptui with --read-write")
            await socket.send_str('["stdin", "q"]')
            while (await socket.receive()).type is not WSMsgType.CLOSE:
                pass
        await asyncio.to_thread(screen.wait, PATIENCE_S)
        assert not served.screens()

    with_session(act)


def test_nothing_is_left_when_the_server_ends(served: Served) -> None:
    """Last in this file: it ends the server."""
    assert "only look" in served.said

    async def act(session: ClientSession) -> None:
        async with await opened(session, served) as socket:
            await until(socket, b"attempt")
            [screen] = served.screens()
            os.kill(screen.pid, signal.SIGSTOP)  # it cannot be asked to leave
            served.process.terminate()
            while (await socket.receive()).type is not WSMsgType.CLOSE:
                pass
            assert await asyncio.to_thread(served.process.wait, PATIENCE_S) == 143
            assert not screen.is_running()

    with_session(act)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("8000", ("127.0.0.1", 8000)),
        ("localhost:1", ("localhost", 1)),
        ("127.3.4.5:0", ("127.3.4.5", 0)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("127.0.0.1", 80)),
    ],
)
def test_where_it_listens(told: str, meant: tuple[str, int]) -> None:
    assert where(told) == meant


@pytest.mark.parametrize("told", ["x", "0.0.0.0:80", "10.0.0.1:80", "example.org:80", "1:65536"])
def test_where_it_does_not(told: str) -> None:
    with pytest.raises(Usage):
        where(told)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--serve", "0.0.0.0:80"], "on this machine only"),
        (["--serve", "80", "--once"], "takes no --once"),
        (["--serve", "80", "--record", "x"], "no --record"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err
