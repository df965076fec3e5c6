"""Many questions at once, from a few connections, with as little work as the protocol allows."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from p2p.client import Client
from p2p.errors import Unreachable
from p2p.wire.client_link import CONNECT_TIMEOUT_S, ClientLink
from tools.prompt_storm.raw import Stream

LINKS = 8
ALIVE_EVERY_S = 6.0
SILENT_S = 10.0  # then it is asked again; a waiting one is told so every second
WITHIN_S = 600.0
LOOK_EVERY_S = 0.02


class Many:
    """`reads` False: they live, and read nothing."""

    def __init__(
        self, client: Client, address: str, args: Sequence[Mapping[str, Any]], reads: bool = True
    ) -> None:
        self.reads = reads
        self.asked_again = 0
        self.streams: list[Stream] = []
        self._client, self._address, self._args = client, address, args
        self._links: list[ClientLink] = []
        self._heard_s: list[float] = []
        self._alive_s = 0.0

    async def all_end(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(WITHIN_S):
            await self.attend(lambda: all(stream.end for stream in self.streams))
        for link in self._links:
            link.close()

    async def attend(self, until: Callable[[], bool]) -> None:
        await self._begin()
        while not until():
            await self._look()

    def counts(self) -> dict[str, int]:
        ends = [
            f"error: {stream.error.get('kind') or stream.error['error']}"
            if stream.end == "error"
            else stream.end or "no end"
            for stream in self.streams
        ]
        return dict(sorted(Counter(ends).items()))

    async def _begin(self) -> None:
        if self._links:
            return
        self._alive_s = time.monotonic()
        for _ in range(LINKS):
            # Each a connection of its own, which Client.link would share.
            context, key = self._client._context, self._client.key
            self._links.append(ClientLink(context, key, self._address))
            await self._links[-1].shake_hands(CONNECT_TIMEOUT_S)
        for number, args in enumerate(self._args):
            self.streams.append(await self._ask(number, args, f"many-{id(self)}-{number}"))
            self._heard_s.append(time.monotonic())

    async def _ask(self, number: int, args: Mapping[str, Any], request: str) -> Stream:
        while True:
            try:
                return Stream.ask(self._client, self._link(number), request, args, WITHIN_S)
            except Unreachable:  # it has as much to read as it wants
                if self._link(number).is_lost:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)

    def _link(self, number: int) -> ClientLink:
        return self._links[number % LINKS]

    async def _look(self) -> None:
        now_s = time.monotonic()
        says_alive = now_s - self._alive_s >= ALIVE_EVERY_S
        self._alive_s = now_s if says_alive else self._alive_s
        for number, stream in enumerate(self.streams):
            if stream.end:
                continue
            if not stream.parts.empty():
                self._heard_s[number] = now_s
                stream.take_all()
            is_silent = self.reads and now_s - self._heard_s[number] >= SILENT_S
            if stream.is_lost or stream.is_torn or is_silent:
                await self._again(number, stream)
            elif says_alive:
                self._say(number, stream)
        await asyncio.sleep(LOOK_EVERY_S)

    def _say(self, number: int, stream: Stream) -> None:
        try:
            read = len(stream.ids) if self.reads else 0
            stream.say_read(self._client, self._link(number), read)
        except Unreachable:
            return  # later

    async def _again(self, number: int, stream: Stream) -> None:
        """As a client does that was not heard: after what it has, which is not told twice."""
        self.asked_again += 1
        self._link(number).close_stream(stream.id)
        begun = "" if stream.is_torn else stream.text
        ids = [] if stream.is_torn else stream.ids
        args = {**self._args[number], "sent": list(ids), "begun": stream.begun if ids else None}
        self._heard_s[number] = time.monotonic()
        made = await self._ask(number, args, stream.request)
        made.ids, made.text, made.begun = list(ids), begun, stream.begun
        self.streams[number] = made
