"""A scenario's peers: real processes, started and ended, found by what the scenario calls them.

Whoever starts a peer must live as long as it (p2p.local_cluster), so all are started by one thread
that lasts as long as this object.
"""

import asyncio
import string
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from p2p.client import Client
from p2p.errors import NoQuorum, OutcomeUnknown, P2PError, Unreachable, Usage
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.scenarios import scenario as do
from p2p.scenarios.facts import Facts
from p2p.scenarios.news import Cluster, Tell
from p2p.scenarios.trainer_processes import SlowDown, trainers_of

ANSWER_S = 20.0
REFUSAL_S = 3.0  # of a peer that cannot agree with anybody: longer than an election
SLOW_CYCLE_S = 0.01


class Peers:
    """Create and use it inside a running event loop."""

    def __init__(self, cluster: LocalCluster, facts: Facts, tell: Tell) -> None:
        self.cluster, self._facts, self._tell = cluster, facts, tell
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        self._client: Client | None = None
        self._slowed: dict[str, SlowDown] = {}

    @property
    def client(self) -> Client:
        """Asks any of those that can decide."""
        if self._client is None:
            self._client = self.cluster.client(ANSWER_S)
        return self._client

    async def close(self) -> None:
        for slow in self._slowed.values():
            slow.__exit__()
        if self._client is not None:
            await self._client.close()
        self._starter.shutdown(wait=False)

    async def find(self, name: str) -> LocalPeer:
        """Who is meant by it now. Raises Usage."""
        if name in ("leader", "follower"):
            told = (await self.client.request("status"))["peers"]
            roles = {one["id"]: one["role"] for one in told if one["state"] == "alive"}
            role = "leader" if name == "leader" else "voter"
            found = [one for one in self.cluster.peers if roles.get(one.id) == role]
        else:
            id_ = self._facts.called.get(name)
            found = [p for p in self.cluster.peers if p.id == id_ or p.told["name"] == name]
        if not found:
            raise Usage(f"there is no peer {name!r} now")
        return found[-1]

    async def through(self, name: str, ask: Callable[[Client], Awaitable[object]]) -> str | None:
        """Ask only this peer; why it could not be done, None if it was."""
        peer = await self.find(name)
        client = Client([peer.address], self.cluster.key, REFUSAL_S)
        try:
            await ask(client)
        except (NoQuorum, OutcomeUnknown, Unreachable) as error:
            return str(error)
        finally:
            await client.close()
        return None

    # -- steps ---------------------------------------------------------------------------------

    async def start(self, action: do.Start) -> None:
        slots = [] if action.slots is None else ["--slots", str(action.slots)]
        known = len({peer.id for peer in self.cluster.peers})
        names = string.ascii_lowercase[known : known + action.peers]

        def start() -> list[LocalPeer]:  # the first one founds the cluster
            first = [] if known else self.cluster.start_many(1, *slots, names=names[0])
            others = names[len(first) :]
            return first + self.cluster.start_many(len(others), *slots, names=others)

        for peer in await self._in_thread(start):
            self._facts.names[peer.id] = str(peer.told["name"])
            if action.called is not None:
                self._facts.called[action.called] = peer.id
        self._announce()

    async def restart(self, action: do.Restart) -> None:
        peers = [await self.find(name) for name in action.peers]
        await self._in_thread(lambda: self.cluster.restart(*peers))
        self._announce()

    async def fault(self, action: do.Fault) -> None:
        peers = [await self.find(name) for name in action.peers]
        for name, peer in zip(action.peers, peers, strict=True):
            self._facts.called[action.called or name] = peer.id
        side = [peer.id for peer in peers]
        for peer in peers:
            told = {"kind": action.kind, "peer": peer.id, "for_s": action.seconds, "side": side}
            await self.client.request("fault", **told)
            if action.kind == "kill":
                await self._ended(peer)
        if action.kind in ("partition", "heal"):
            await self._ask_majority(set(side) if action.kind == "partition" else set())

    async def _ask_majority(self, side: set[str]) -> None:
        """The others cannot know what goes on, and a client believes whoever answers."""
        running = [peer for peer in self.cluster.peers if peer.is_running]
        here = [peer for peer in running if peer.id in side]
        there = [peer for peer in running if peer.id not in side]
        asked = max(here, there, key=len)
        await self.client.close()
        self._client = Client([peer.address for peer in asked], self.cluster.key, ANSWER_S)
        self._announce(asked)

    async def remove(self, action: do.Remove) -> None:
        peer = await self.find(action.peer)
        self._facts.called[action.peer] = peer.id
        await self.client.request("remove", peer=peer.id)
        await self._ended(peer)

    async def transfer(self, action: do.Transfer) -> None:
        await self.client.request("transfer", peer=(await self.find(action.peer)).id)

    async def slow(self, action: do.Slow) -> None:
        peer = await self.find(action.peer)
        before = self._slowed.pop(peer.id, None)
        if before is not None:
            before.__exit__()
        if action.share < 1.0:
            trainers = trainers_of(peer.process.pid)
            if not trainers:
                raise P2PError(f"{action.peer} has no trainer that could be slowed down")
            slow = self._slowed[peer.id] = SlowDown(trainers[-1], action.share, SLOW_CYCLE_S)
            slow.__enter__()

    async def _ended(self, peer: LocalPeer) -> None:
        try:
            await self._in_thread(partial(peer.process.wait, ANSWER_S))
        except subprocess.TimeoutExpired as error:
            raise P2PError(f"{peer.told['name']} did not end within {ANSWER_S:g} s") from error

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._starter, work)

    def _announce(self, peers: Sequence[LocalPeer] = ()) -> None:
        asked = peers or [peer for peer in self.cluster.peers if peer.is_running]
        addresses = tuple(peer.address for peer in asked)
        self._tell(Cluster(addresses, str(asked[0].told["token_file"])))
