"""What happened when: faults, their ends, and how each peer saw its cluster meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.wire.keys import ClusterKey

LOOK_EVERY_S = 0.2
PATIENCE_S = 0.5  # then it is written down that it does not answer


class Diary:
    """Lines in the order of time. Written to by several threads."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.lines: list[tuple[float, str]] = []

    def note(self, what: str) -> None:
        self.lines.append((time.monotonic(), what))

    def told(self, begin_s: float, end_s: float) -> list[str]:
        """What happened in that time, and when, in seconds since the diary began."""
        since = [(at_s, what) for at_s, what in sorted(self.lines) if begin_s <= at_s <= end_s]
        return [f"{at_s - self.began_s:.1f} {what}" for at_s, what in since]


class Observer:
    """A thread that asks every peer again and again how it sees the cluster, and notes changes.

    `addresses`: name and address of all whose process should answer; `names`: of peer ids.
    """

    def __init__(
        self,
        diary: Diary,
        key: ClusterKey,
        addresses: Callable[[], dict[str, str]],
        names: Callable[[], dict[str, str]],
    ) -> None:
        self._diary, self._key = diary, key
        self._addresses, self._names = addresses, names
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        watched: dict[str, asyncio.Task[None]] = {}
        while not self._stopping.is_set():
            for name in self._addresses():
                if name not in watched:
                    watched[name] = asyncio.create_task(self._watch(name))
            await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.gather(*watched.values())

    async def _watch(self, name: str) -> None:
        last = ""
        while not self._stopping.is_set():
            address = self._addresses().get(name)
            told = await self._seen_at(address) if address else "is not there"
            if told != last:
                self._diary.note(f"{name} {told}")
                last = told
            await asyncio.sleep(LOOK_EVERY_S)

    async def _seen_at(self, address: str) -> str:
        client = Client([address], self._key, PATIENCE_S)
        try:
            return self._in_words(await client.request("status"))
        except P2PError:
            return "does not answer"
        finally:
            await client.close()

    def _in_words(self, status: dict[str, Any]) -> str:
        names, cluster = self._names(), status["cluster"]
        votes = [each["id"] for each in status["peers"] if each["role"] in ("leader", "voter")]
        voters = " ".join(sorted(names.get(peer, peer[:6]) for peer in votes))
        leader = names.get(cluster["leader"], "nobody")
        quorum = "" if cluster["quorum"] else " without a quorum"
        return f"follows {leader} in term {cluster['term']}{quorum}; voters: {voters}"
