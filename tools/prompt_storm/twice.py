"""One request asked twice at one peer, as a client does that is not sure whether it was heard.

It speaks the protocol itself: p2p.generation would not ask so.
"""

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.wire.client_link import CONNECT_TIMEOUT_S, ClientLink, Part
from tools.prompt_storm.questions import Question

FIRST_IDS = 5
WITHIN_S = 30.0
READ_EVERY_S = 0.5
AFTERWARDS_S = 0.5  # nothing may come any more


@dataclass
class Stream:
    """What one of the two was told. `end`: "", ok, error, or lost with the peer."""

    id: str
    parts: "asyncio.Queue[Part]"
    ids: list[int] = field(default_factory=list)
    text: str = ""
    end: str = ""
    after_end: int = 0  # parts that came although it had ended
    is_torn: bool = False  # a part does not follow the one before

    def take(self, part: Part) -> None:
        if self.end:
            self.after_end += isinstance(part, dict) and not part.get("lost")
        elif isinstance(part, P2PError):
            self.end = "lost"
        elif "error" in part:
            self.end = "lost" if part.get("lost") or part.get("kind") == "Busy" else "error"
        elif "ok" in part:
            self.end = "ok"
            self.text += str(part["ok"].get("text", ""))
        elif part["part"].get("kind") == "tokens":
            self.is_torn |= part["part"]["at"] != len(self.ids)
            self.ids += part["part"]["ids"]
            self.text += part["part"]["text"]

    def told(self) -> dict[str, Any]:
        names = ("ids", "text", "end", "after_end", "is_torn")
        return {name: getattr(self, name) for name in names}


async def ask_twice(client: Client, question: Question, request: str) -> dict[str, Any]:
    """`result`: twice, with both streams; or interrupted, where peers or time did not allow it."""
    told: dict[str, Any] = {"result": "interrupted", "ended_s": time.monotonic()}
    with contextlib.suppress(P2PError, TimeoutError):
        link = client.link(client.address)
        await link.shake_hands(CONNECT_TIMEOUT_S)
        async with asyncio.timeout(WITHIN_S):
            first = _open(client, link, question, request)
            await _follow(client, link, request, first, least=FIRST_IDS)
            was_over = bool(first.end)
            second = _open(client, link, question, request)
            await _follow(client, link, request, second)
            await asyncio.sleep(AFTERWARDS_S)
            for stream in (first, second):
                while not stream.parts.empty():
                    stream.take(stream.parts.get_nowait())
                link.close_stream(stream.id)
            if "lost" not in (first.end, second.end):
                streams = {"first": first.told(), "second": second.told(), "was_over": was_over}
                told = {"result": "twice", **streams, "ended_s": time.monotonic()}
    return told


def _open(client: Client, link: ClientLink, question: Question, request: str) -> Stream:
    prompt = question.prompt
    given = {"text": prompt} if isinstance(prompt, str) else {"messages": prompt}
    args = {**given, **question.options, "request": request, "service": "storm", "sent": []}
    id_ = uuid.uuid4().hex
    body = {"id": id_, "verb": "generate", "args": {**args, "timeout_s": WITHIN_S}}
    return Stream(id_, link.open_stream(client.id, body))


async def _follow(
    client: Client, link: ClientLink, request: str, stream: Stream, least: int | None = None
) -> None:
    """To its end, or until it has as many ids."""
    said_s = 0.0
    while not stream.end and (least is None or len(stream.ids) < least):
        if time.monotonic() - said_s >= READ_EVERY_S:
            said_s = time.monotonic()
            args = {"request": request, "stream": stream.id, "read": len(stream.ids)}
            body = {"id": uuid.uuid4().hex, "verb": "generate_read", "args": args}
            link.tell(client.id, body)
        with contextlib.suppress(TimeoutError):
            stream.take(await asyncio.wait_for(stream.parts.get(), READ_EVERY_S))
