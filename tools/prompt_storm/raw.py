"""Prompts asked by the bare protocol, as p2p.generation would not ask: never read, or twice."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.wire.client_link import ClientLink, Part

READ_EVERY_S = 0.5


@dataclass
class Stream:
    """What one question was told. `end`: "", ok, error (with `error`), or lost with the peer."""

    id: str
    request: str
    parts: "asyncio.Queue[Part]"
    ids: list[int] = field(default_factory=list)
    text: str = ""
    end: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)
    after_end: int = 0  # parts that came although it had ended
    is_torn: bool = False  # a part does not follow the one before
    begun: Any = None  # the weights that its ids come from, as its peer names them

    @staticmethod
    def ask(
        client: Client, link: ClientLink, request: str, args: Mapping[str, Any], within_s: float
    ) -> "Stream":
        """Raises Unreachable."""
        given = {**args, "request": request, "timeout_s": within_s}
        id_ = uuid.uuid4().hex
        parts = link.open_stream(client.id, {"id": id_, "verb": "generate", "args": given})
        return Stream(id_, request, parts)

    @property
    def is_lost(self) -> bool:
        return self.end == "lost"

    def take(self, part: Part) -> None:
        if self.end:
            self.after_end += isinstance(part, dict) and not part.get("lost")
        elif isinstance(part, P2PError):
            self.end = "lost"
        elif "error" in part:
            self.end, self.error = "lost" if part.get("lost") else "error", part
        elif "ok" in part:
            self.end = "ok"
            self.text += str(part["ok"].get("text", ""))
        elif part["part"].get("kind") == "tokens":
            self.is_torn |= part["part"]["at"] != len(self.ids)
            self.begun = part["part"].get("begun", self.begun)
            self.ids += part["part"]["ids"]
            self.text += part["part"]["text"]

    def take_all(self) -> None:
        """What has come so far."""
        while not self.parts.empty():
            self.take(self.parts.get_nowait())

    def say_read(self, client: Client, link: ClientLink, read: int) -> None:
        """Its client lives. Raises Unreachable."""
        args = {"request": self.request, "stream": self.id, "read": read}
        body = {"id": uuid.uuid4().hex, "verb": "generate_read", "args": args}
        link.tell(client.id, body)

    async def follow(self, client: Client, link: ClientLink, least: int | None = None) -> None:
        """To its end, or until it has as many ids. Raises Unreachable."""
        said_s = 0.0
        while not self.end and (least is None or len(self.ids) < least):
            if time.monotonic() - said_s >= READ_EVERY_S:
                said_s = time.monotonic()
                self.say_read(client, link, len(self.ids))
            with contextlib.suppress(TimeoutError):
                self.take(await asyncio.wait_for(self.parts.get(), READ_EVERY_S))

    def told(self) -> dict[str, Any]:
        names = ("ids", "text", "end", "after_end", "is_torn")
        return {**{name: getattr(self, name) for name in names}, "error": dict(self.error)}
