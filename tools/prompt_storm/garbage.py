"""What no honest client sends: bytes of strangers, frames that are nearly right, 100 MB at once."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from random import Random
from typing import Any

import msgpack
import zmq

from p2p.client import Client
from p2p.errors import Usage
from p2p.wire.addresses import parse_address
from p2p.wire.envelope import Envelope, encode
from p2p.wire.sockets import dealer

STRANGERS, FRAMES = 40, 4_000
STRANGE_BYTES_MAX = 64 * 1024
ENORMOUS, LARGE, LARGE_AT_ONCE = 100_000_000, 15_000_000, 24
LARGE_WITHIN_S = 120.0
VALUES: tuple[Any, ...] = (
    *(None, -1, 1 << 63, 0.5, float("nan"), float("inf"), "", "x" * 300, b"\xff", True),
    *([], [[[]]], {}, {"a": {"b": []}}, ["x"] * 1_000, "\x00", {"kind": "generate"}, {"": 1}),
)
BODIES: dict[str, tuple[dict[str, Any], ...]] = {
    "prompt": (
        {"alive": ["r"]},
        {"child": "c", "order": {"kind": "generate", "request": "r", "text": "x", "sent": [1]}},
        {"child": "c", "order": {"kind": "cancel", "request": "r"}},
        {"child": "c", "order": {"kind": "load", "request": "r"}},
    ),
    "stream": (
        {"child": "c", "running": 1, "waiting": 1, "pieces": [["r", 0, [1], "x"]]},
        {"child": "c", "done": {"kind": "done", "request": "r", "reason": "stop", "usage": {}}},
        {"child": "c", "gone": True},
    ),
}


async def bytes_of_strangers(address: str, rng: Random) -> dict[str, Any]:
    """Who does not know the key does not get past the handshake."""
    host, port = parse_address(address)
    closed = 0
    for _ in range(STRANGERS):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(rng.randbytes(rng.randint(1, STRANGE_BYTES_MAX)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await reader.read()
                    closed += 1
            writer.close()
    return {"strangers": STRANGERS, "closed_at_once": closed}


async def frames_of_a_friend(
    client: Client, address: str, rng: Random, args: Mapping[str, Any]
) -> dict[str, Any]:
    """Who knows the key, and sends what is nearly right."""
    sock = _connected(client, address)
    requests = tuple(
        {"id": "i", "verb": verb, "args": {**args, "request": "r", "stream": "s", "read": 1}}
        for verb in ("generate", "generate_read", "generate_cancel", "status", "serve")
    )
    bodies = [(kind, body) for kind, each in BODIES.items() for body in each]
    bodies += [("request", body) for body in requests]
    for number in range(FRAMES):
        kind, body = rng.choice(bodies)
        envelope = Envelope(client.key.cluster_id, "a friend", "", kind, _spoilt(body, rng))
        data = encode(envelope)
        if number % 4 == 0:  # bytes of it, too
            spot = rng.randrange(len(data))
            data = data[:spot] + rng.randbytes(rng.randint(0, 8)) + data[spot + rng.randint(0, 8) :]
        await _send(sock, data)
    await asyncio.sleep(0.5)
    sock.close(0)
    return {"frames": FRAMES}


async def enormous_prompts(client: Client, address: str) -> dict[str, Any]:
    """Of 100 MB, by the client and by one that does not look; then many of 15 MB, which a peer
    reads, side by side.
    """
    problems: list[str] = []
    began_s = time.monotonic()
    said = await _refusal(client, "x" * ENORMOUS)
    told: dict[str, Any] = {"refused_after_s": round(time.monotonic() - began_s, 2)}
    if "may be" not in said:
        problems.append(f"a prompt of {ENORMOUS} bytes was told {said!r}")
    sock = _connected(client, address)
    body = {"id": uuid.uuid4().hex, "verb": "generate", "args": {"text": "x" * ENORMOUS}}
    envelope = Envelope(client.key.cluster_id, "a friend", "", "request", body)
    await _send(sock, encode(envelope))
    await asyncio.sleep(1.0)
    sock.close(0)
    link = client.link(address)
    await link.shake_hands(LARGE_WITHIN_S)
    args = {"text": "x" * LARGE, "request": "large"}
    bodies = [{"id": f"large-{n}", "verb": "generate", "args": args} for n in range(LARGE_AT_ONCE)]
    answers = await asyncio.gather(*(link.ask(client.id, body, LARGE_WITHIN_S) for body in bodies))
    large = [str(answer.get("error")) for answer in answers]
    problems += [f"a large prompt was told {each!r}" for each in large if "may be" not in each]
    return {**told, "large_ones": len(large), "large_were_told": large[0], "problems": problems}


async def _refusal(client: Client, text: str) -> str:
    try:
        async for _ in client.generate(text):
            return "an answer"
    except Usage as error:
        return str(error)
    return "nothing"


def _spoilt(body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
    """Somewhere in it another value, or none."""
    made: dict[str, Any] = msgpack.unpackb(msgpack.packb(dict(body)))
    at: dict[str, Any] = made
    while True:
        name = rng.choice(sorted(at))
        if isinstance(at[name], dict) and at[name] and rng.random() < 0.8:
            at = at[name]
            continue
        if rng.random() < 0.2:
            del at[name]
        else:
            at[name] = rng.choice(VALUES)
        return made


def _connected(client: Client, address: str) -> "zmq.Socket[bytes]":
    host, port = parse_address(address)
    sock = dealer(client._context, client.key, -1)
    sock.connect(f"tcp://{host}:{port}")
    return sock


async def _send(sock: "zmq.Socket[bytes]", data: bytes) -> None:
    while True:
        try:
            sock.send(data, zmq.NOBLOCK)
            return
        except zmq.Again:
            await asyncio.sleep(0.01)
