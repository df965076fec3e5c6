"""One request asked twice at one peer, as a client does that is not sure whether it was heard."""

import asyncio
import contextlib
import time
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.wire.client_link import CONNECT_TIMEOUT_S
from tools.prompt_storm.questions import Question
from tools.prompt_storm.raw import Stream

FIRST_IDS = 5
WITHIN_S = 30.0
AFTERWARDS_S = 0.5  # nothing may come any more


async def ask_twice(client: Client, question: Question, request: str) -> dict[str, Any]:
    """`result`: twice, with both streams; or interrupted, where peers or time did not allow it."""
    told: dict[str, Any] = {"result": "interrupted", "ended_s": time.monotonic()}
    args = question.args()
    with contextlib.suppress(P2PError, TimeoutError):
        link = client.link(client.address)
        await link.shake_hands(CONNECT_TIMEOUT_S)
        async with asyncio.timeout(WITHIN_S):
            first = Stream.ask(client, link, request, args, WITHIN_S)
            await first.follow(client, link, least=FIRST_IDS)
            second = Stream.ask(client, link, request, args, WITHIN_S)
            second.take(await second.parts.get())
            # A peer says things in their order: what came before that, it did not know better.
            first.take_all()
            was_over = first.end == "ok"
            await second.follow(client, link)
            await asyncio.sleep(AFTERWARDS_S)
            for stream in (first, second):
                stream.take_all()
                link.close_stream(stream.id)
            if "lost" not in (first.end, second.end):
                streams = {"first": first.told(), "second": second.told(), "was_over": was_over}
                told = {"result": "twice", **streams, "ended_s": time.monotonic()}
    return told
