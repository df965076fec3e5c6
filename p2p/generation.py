"""One answer to a prompt, piece by piece, whichever peers and replicas come and go meanwhile.

    async for text in client.generate("Once upon a time", model="tales", seed=7): …
    for text in client.generate("Once upon a time"): …        where no event loop runs

Afterwards `.end` says how it ended and who answered. The peer that is asked keeps the prompt and
finds another replica when one is lost; when that peer is lost, the next one is asked to go on after
the ids that are here. Nothing is said twice, and the text depends on the weights, the prompt, the
seed and the sampling alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2p.errors import Busy, OutcomeUnknown, P2PError, Unreachable, Usage, from_wire
from p2p.serving.checking import Fields, Malformed
from p2p.serving.protocol import TIMEOUT_MAX_S, TIMEOUT_S, generate
from p2p.wire.client_link import CONNECT_TIMEOUT_S, ClientLink, WrongKey

if TYPE_CHECKING:
    from p2p.client import Client

SILENT_S = 6.0  # a peer says every second that it is still there
READ_EVERY_S = 0.5  # if anything was
ALIVE_EVERY_S = 4.0  # thousands who wait shall not keep the peer busy that they wait for
READ_EVERY_IDS = 64
CANCEL_WITHIN_S = 1.0
PAUSE_S = 0.05
OPTIONS = ("max_tokens", "temperature", "top_k", "top_p", "seed", "stop", "conversation")


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended: `reason` is stop, length or cancelled. `moves` = how often another
    replica went on with it.
    """

    reason: str
    model: str
    peer: str
    replica: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    moves: int


@dataclass(slots=True)
class _Told:
    ids: list[int] = field(default_factory=list)
    read: int = 0  # of them, by whoever iterates
    begun: Mapping[str, Any] | None = None  # the weights that they come from


class _Interrupted(P2PError):
    """The peer that was asked is lost, or has lost the request."""


class Generation:
    """Iterate once. Raises P2PError: Usage for a prompt that cannot be, Busy when all is full for
    longer than the time-out, Unreachable when no peer answers.
    """

    def __init__(
        self, client: Client, prompt: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        unknown = sorted(set(options) - {*OPTIONS, "model", "timeout_s", "waits_when_busy"})
        if unknown:
            raise Usage(f"generate has no option {unknown[0]!r}: there are {', '.join(OPTIONS)}")
        self.end: End | None = None
        self.answering: Mapping[str, Any] = {}  # which peer and replica answers now
        self._client = client
        self._waits_when_busy = bool(options.get("waits_when_busy", True))
        given = {name: options[name] for name in OPTIONS if options.get(name) is not None}
        request = uuid.uuid4().hex
        self._order = {"seed": random.getrandbits(32), **prompt, **given, "request": request}
        try:
            self.seed = generate(Fields(self._order)).sampling.seed
            self._timeout_s = Fields(options).number("timeout_s", TIMEOUT_S, 0.001, TIMEOUT_MAX_S)
        except Malformed as error:
            raise Usage(str(error)) from error
        if options.get("model") is not None:
            self._order["service"] = options["model"]
        self._told = _Told()

    @property
    def told_ids(self) -> tuple[int, ...]:
        """The ids that have come so far."""
        return tuple(self._told.ids)

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces()

    def __iter__(self) -> Iterator[str]:
        """In a thread of its own, with connections of its own."""
        said: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(said, stopping), daemon=True)
        thread.start()
        try:
            while (piece := said.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                self._told.read = len(self._told.ids)
        finally:
            stopping.set()
            thread.join()

    def _run(
        self,
        said: queue.SimpleQueue[str | BaseException | None],
        stopping: threading.Event,
    ) -> None:
        async def main() -> None:
            from p2p.client import Client

            known = self._client
            self._client = Client(known.known, known.key, known.timeout_s)
            try:
                async with contextlib.aclosing(self._pieces(reads=False)) as pieces:
                    following = asyncio.ensure_future(_each(pieces, said))
                    while not following.done() and not stopping.is_set():
                        await asyncio.wait({following}, timeout=READ_EVERY_S / 5)
                    following.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await following
            finally:
                await self._client.close()

        try:
            asyncio.run(main())
            said.put(None)
        except BaseException as error:
            said.put(error)

    # -- asking ----------------------------------------------------------------------------------

    async def _pieces(self, reads: bool = True) -> AsyncGenerator[str]:
        """`reads`: what was given out counts as read."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        problem: P2PError = Unreachable("no peer answers")
        while True:
            for address in self._client.candidates():
                before = len(self._told.ids)
                try:
                    async with contextlib.aclosing(self._asked(address, deadline_s)) as pieces:
                        async for piece in pieces:
                            yield piece
                            self._told.read = len(self._told.ids) if reads else self._told.read
                    return
                except Busy as busy:
                    if not (self._waits_when_busy or self._told.ids):
                        raise
                    problem = busy
                    retry_s = min(float(getattr(busy, "retry_s", 1.0)), 5.0)
                    await asyncio.sleep(min(retry_s, max(0.0, deadline_s - loop.time())))
                except (Unreachable, _Interrupted, OutcomeUnknown, WrongKey) as error:
                    problem = error if not isinstance(error, _Interrupted) else problem
                if len(self._told.ids) > before:
                    break  # begin again with whoever answered last
            if loop.time() + PAUSE_S >= deadline_s:
                raise problem
            alone = len(self._client.candidates()) == 1 and not self._told.ids
            if alone and isinstance(problem, Unreachable | WrongKey):
                raise problem
            await asyncio.sleep(PAUSE_S)

    async def _asked(self, address: str, deadline_s: float) -> AsyncGenerator[str]:
        loop, told = asyncio.get_running_loop(), self._told
        link = self._client.link(address)
        await link.shake_hands(CONNECT_TIMEOUT_S)
        left_s = max(deadline_s - loop.time(), 0.01)
        stream = uuid.uuid4().hex
        args = {**self._order, "sent": list(told.ids), "timeout_s": left_s, "begun": told.begun}
        sender, body = self._client.id, {"id": stream, "verb": "generate", "args": args}
        parts = link.open_stream(sender, body)
        reading = asyncio.ensure_future(self._say_read(link, stream))
        is_over = False
        try:
            while True:
                try:
                    part = await asyncio.wait_for(parts.get(), SILENT_S)
                except TimeoutError:
                    raise _Interrupted(f"the peer at {address} says nothing") from None
                if isinstance(part, P2PError):
                    is_over = True
                    raise _Interrupted(str(part)) from part
                is_over = "part" not in part
                text = self._taken(part, address)
                if text:
                    yield text
                if is_over:
                    return
        finally:
            reading.cancel()
            link.close_stream(stream)
            if not is_over:
                await self._cancel(link)

    def _taken(self, part: Mapping[str, Any], address: str) -> str:
        """The text that it brings."""
        if "error" in part:
            if part.get("lost"):
                raise _Interrupted("the request is not known there any more")
            error = from_wire(dict(part))
            if isinstance(error, Busy):
                error.retry_s = float(part.get("retry_s") or 1.0)
            raise error
        said = part.get("part", part.get("ok", {}))
        self._client.address = address
        if "part" not in part:
            usage = said.get("usage", {})
            self.end = End(
                reason=str(said.get("reason", "")),
                model=str(said.get("model", "")),
                peer=str(said.get("peer_name", "")),
                replica=str(said.get("replica", "")),
                prompt_tokens=int(usage.get("prompt_tokens", 0)),
                completion_tokens=int(usage.get("completion_tokens", 0)),
                seconds=float(said.get("seconds", 0.0)),
                moves=int(said.get("moves", 0)),
            )
            return str(said.get("text", ""))
        if said.get("kind") == "routed":
            self.answering = said
        if said.get("kind") != "tokens":
            return ""
        if said["at"] != len(self._told.ids):
            raise _Interrupted("a piece of the answer was lost on the way")
        self._told.begun = said.get("begun", self._told.begun)
        self._told.ids += said["ids"]
        return str(said["text"])

    async def _say_read(self, link: ClientLink, stream: str) -> None:
        """So that the peer knows that somebody is there, and how fast."""
        loop, said, said_s = asyncio.get_running_loop(), self._told.read, 0.0
        while True:
            await asyncio.sleep(READ_EVERY_S / 10)
            read = self._told.read
            since_s = loop.time() - said_s
            has_read = read > said and since_s >= READ_EVERY_S
            if read - said >= READ_EVERY_IDS or has_read or since_s >= ALIVE_EVERY_S:
                said, said_s = read, loop.time()
                args = {"request": self._order["request"], "stream": stream, "read": read}
                body = {"id": uuid.uuid4().hex, "verb": "generate_read", "args": args}
                with contextlib.suppress(P2PError):
                    link.tell(self._client.id, body)

    async def _cancel(self, link: ClientLink) -> None:
        args = {"request": self._order["request"]}
        body = {"id": uuid.uuid4().hex, "verb": "generate_cancel", "args": args}
        with contextlib.suppress(P2PError):
            await link.ask(self._client.id, body, CANCEL_WITHIN_S)


async def _each(
    pieces: AsyncIterator[str], said: queue.SimpleQueue[str | BaseException | None]
) -> None:
    async for piece in pieces:
        said.put(piece)
