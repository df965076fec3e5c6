"""Clients that put, get, delete and compare-and-set, and write down what they saw.

Each has a chain besides: a key that only it sets, always from its last value to the next. Whatever
is carried out twice there (a request that was sent again because its answer was lost) fails the
second time, although nobody else can have been in between: such a history has no order.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any
from zlib import crc32

from p2p.client import Client
from p2p.errors import OutcomeUnknown, P2PError
from p2p.wire.keys import ClusterKey
from tools.linearizability import Operation, Verb

HOT_KEYS = 5
PAUSE_S = 0.02  # at most, between two operations of a client
KEPT_SHARE = 0.03  # of the operations put a key that nobody touches again
TIMEOUT_S = 4.0
CHAIN_SHARE = 0.4
LARGE_BYTES, LARGE_ONE_IN = 40_000, 8
VERBS: tuple[Verb, ...] = ("put", "put", "get", "get", "get", "cas", "cas", "delete")


class Workload:
    """A thread with its own event loop, so that the storm may block. `history` grows meanwhile."""

    def __init__(
        self, addresses: Callable[[], list[str]], key: ClusterKey, clients: int, seed: int
    ) -> None:
        self.history: list[Operation] = []
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.kept: list[str] = []
        self._addresses, self._key, self._seed = addresses, key, seed
        self._names = [f"c{number}" for number in range(1, clients + 1)]
        self.hot_keys = [f"k{number}" for number in range(HOT_KEYS)]
        self.hot_keys += [f"chain-{name}" for name in self._names]
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Raises what ended a client that should not have ended."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as failure:
            self._failure = failure

    async def _all(self) -> None:
        await asyncio.gather(*map(self._live, self._names))

    async def _live(self, name: str) -> None:
        """One client after the other (each with its own session), as users come and go."""
        rng = Random(f"{self._seed} {name}")
        number, seen = 0, dict[str, Any].fromkeys(f"k{n}" for n in range(HOT_KEYS))
        chain = _Chain(f"chain-{name}")
        while not self._stopping.is_set():
            client = Client(self._addresses(), self._key, TIMEOUT_S)
            try:
                for _ in range(rng.randint(20, 400)):
                    number += 1
                    if rng.random() < CHAIN_SHARE:
                        await self._next(client, name, number, chain)
                    else:
                        await self._one(client, name, number, rng, seen)
                    await asyncio.sleep(rng.uniform(0.0, PAUSE_S))
                    if self._stopping.is_set():
                        return
            finally:
                await client.close()

    async def _one(
        self, client: Client, name: str, number: int, rng: Random, seen: dict[str, Any]
    ) -> None:
        value, verb = f"{name}-{number}", rng.choice(VERBS)
        key = rng.choice(sorted(seen))
        argument: Any = None
        if rng.random() < KEPT_SHARE:
            key, verb = f"kept-{value}", "put"
            self.kept.append(key)
        if verb == "put":
            argument = value
        elif verb == "cas":
            argument = (seen[key], value)
        told = await self.done(client, name, key, verb, argument)
        if told is not None and key in seen:
            after = {"put": value, "get": told.result, "delete": None}
            seen[key] = after[verb] if verb in after else value if told.result else seen[key]

    async def _next(self, client: Client, name: str, number: int, chain: "_Chain") -> None:
        """One link more; after a doubt, a look at where the chain ends."""
        value = f"{name}-{number}"
        if chain.is_sure:
            told = await self.done(client, name, chain.key, "cas", (chain.end, value))
            chain.is_sure = told is not None and bool(told.result)
            chain.end = value if chain.is_sure else chain.end
        else:
            told = await self.done(client, name, chain.key, "get", None)
            chain.is_sure = told is not None
            chain.end = told.result if told is not None else chain.end

    async def done(
        self, client: Client, name: str, key: str, verb: Verb, argument: Any
    ) -> Operation | None:
        """One operation, written down unless it was refused for certain; None: no answer."""
        began_s = time.monotonic()
        try:
            result = await asked(client, verb, key, argument)
        except P2PError as error:
            self.errors[f"{type(error).__name__}: {str(error)[:70]}"] += 1
            is_unknown = isinstance(error, OutcomeUnknown) and verb != "get"
            self.counts["unknown" if is_unknown else "failed"] += 1
            if is_unknown:
                self.history.append(Operation(name, key, verb, argument, None, began_s, None))
            return None
        self.counts["ok"] += 1
        told = Operation(name, key, verb, argument, result, began_s, time.monotonic())
        self.history.append(told)
        return told


@dataclass
class _Chain:
    key: str
    end: str | None = None
    is_sure: bool = True


def stored(text: str | None) -> bytes | None:
    """What stands for this text in the store: some are large, so that logs and snapshots grow."""
    if text is None:
        return None
    data = text.encode()
    return data.ljust(LARGE_BYTES, b".") if crc32(data) % LARGE_ONE_IN == 0 else data


def read(value: bytes | None) -> str | None:
    """Inverse of stored."""
    return None if value is None else value.decode().rstrip(".")


async def asked(client: Client, verb: Verb, key: str, argument: Any) -> Any:
    """The result as the checker wants it; values are text there and bytes in the store."""
    match verb:
        case "put":
            return await client.put(key, stored(argument) or b"")
        case "get":
            return read(await client.get(key))
        case "delete":
            return await client.delete(key)
        case "cas":
            expected, new = argument
            return await client.compare_and_set(key, stored(expected), stored(new))


def silences(history: list[Operation], until_s: float) -> list[tuple[float, float]]:
    """When, up to a moment, no operation was answered: from and to, the longest first."""
    ends = sorted(o.returned_at for o in history if o.returned_at is not None)
    between = pairwise([end_s for end_s in ends if end_s < until_s] + [until_s])
    return sorted(between, key=lambda gap: gap[0] - gap[1])
