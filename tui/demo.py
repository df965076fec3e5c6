"""A demonstration in a process of its own, and where the screen finds its peers.

`p2pnode demo --json` plays the scenarios and tells what happens, an object a line. It is told to
end, and ends its peers, when this process is gone, however that came.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from p2p.errors import P2PError, Refused, Unreachable
from p2p.training.death import die_with
from tui.chat import Question
from tui.connect import ClusterSource
from tui.feed import Answer

LINE_BYTES_MAX = 16 * 1024 * 1024  # the last one is the whole verdict
ENDS_WITHIN_S = 20.0
News = Mapping[str, Any]


class Demo:
    """Plays what `arguments` of `p2pnode demo` say. `tell` is called with each of its news."""

    def __init__(self, arguments: list[str], tell: Callable[[News], None]) -> None:
        self._arguments, self._tell = arguments, tell
        self._process: asyncio.subprocess.Process | None = None
        self.report: dict[str, Any] | None = None  # the last verdict

    async def play(self) -> None:
        """Once. Raises P2PError with its last words when it ends without a verdict."""
        self.report = None
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "p2p.cli", "demo", "--json", *self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        words = asyncio.ensure_future(process.stderr.read())
        async for line in process.stdout:
            told = json.loads(line)
            if "scenarios" in told:
                self.report = told
            else:
                self._tell(told)
        said = (await words).decode(errors="replace").strip().splitlines()
        await process.wait()
        if self.report is None:
            raise P2PError(said[-1] if said else "the demonstration ended without a verdict")

    async def close(self) -> None:
        """Its peers and its folder go with it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()


class DemoSource:
    """Asks the peers of the cluster that plays now; between two of them, nobody."""

    def __init__(self) -> None:
        self._inner: ClusterSource | None = None
        self._closing: list[ClusterSource] = []

    @property
    def address(self) -> str:
        return self._inner.address if self._inner is not None else ""

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        if self._inner is None:
            raise Unreachable("the peers of the next scenario are being started")
        return await self._inner.request(verb, **args)

    async def generate(self, prompt: Question, **options: Any) -> Answer:
        raise Refused("this is a demonstration: any key stops it")

    def told(self, news: News) -> bool:
        """Whether it is another cluster, or another side of one, from now on."""
        kind = news.get("news")
        if kind == "begins":
            self._leave()
        elif kind == "cluster" and self.address not in news["addresses"]:
            self._leave()
            self._inner = ClusterSource(",".join(news["addresses"]), news["token_file"])
            return True
        return False

    def _leave(self) -> None:
        if self._inner is not None:
            self._closing.append(self._inner)
        self._inner = None

    async def close(self) -> None:
        self._leave()
        for source in self._closing:
            await source.close()
