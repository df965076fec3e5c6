"""Carries out a scenario's steps on real peers, as users would: by processes and by requests."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.scenarios import scenario as do
from p2p.scenarios.facts import Facts, named
from p2p.scenarios.jobs import ASK_EVERY_S, Jobs
from p2p.scenarios.news import Tell
from p2p.scenarios.peers import Peers
from p2p.scenarios.waiting import Seen, missing


class Stage:
    """`facts` are what is seen. Create and use it inside a running event loop."""

    def __init__(self, cluster: LocalCluster, tell: Tell, folder: str) -> None:
        self.facts = Facts()
        self.peers = peers = Peers(cluster, self.facts, tell)
        self.jobs = jobs = Jobs(peers, self.facts, tell, folder)
        self._does: dict[type[Any], Callable[[Any], Awaitable[None]]] = {
            do.Start: peers.start,
            do.Restart: peers.restart,
            do.Fault: peers.fault,
            do.Remove: peers.remove,
            do.Transfer: peers.transfer,
            do.Slow: peers.slow,
            do.Submit: jobs.submit,
            do.Restore: jobs.restore,
            do.Set: jobs.change,
            do.Pause: jobs.pause,
            do.Resume: jobs.resume,
            do.Cancel: jobs.cancel,
            do.Checkpoint: jobs.checkpoint,
            do.Measure: jobs.measure,
            do.Wait: self.wait,
            do.Write: self.write,
            do.Read: self.read,
        }

    async def perform(self, action: do.Action) -> None:
        """Raises P2PError: what could not be done, or did not come true in time."""
        await self._does[type(action)](action)

    async def close(self) -> None:
        await self.peers.close()

    async def wait(self, action: do.Wait) -> None:
        first = told = await self._job(action)
        deadline_s, step = time.monotonic() + action.within_s, -1
        while lacks := await self._missing(action, first, told):
            if told is not None and action.awaits_steps and told["step"] > step:
                # However slow this machine is: what goes on is not waited for in vain.
                deadline_s, step = time.monotonic() + action.within_s, told["step"]
            if time.monotonic() > deadline_s:
                raise P2PError(f"waited {action.within_s:g} s in vain for {lacks}")
            await asyncio.sleep(ASK_EVERY_S)
            told = await self._job(action)

    async def _job(self, action: do.Wait) -> dict[str, Any] | None:
        return None if action.job is None else await self.jobs.look(action.job)

    async def _missing(
        self, action: do.Wait, first: dict[str, Any] | None, told: dict[str, Any] | None
    ) -> str:
        client = self.peers.client
        status = await client.request("status")
        if action.insight is not None:
            rows = (await client.request("insights"))["insights"]
            self.facts.insights = [str(row["text"]) for row in rows]
        seen = Seen(told, first, status, tuple(self.facts.events), tuple(self.facts.insights))
        return missing(action, seen, lambda text: named(text, self.facts))

    async def write(self, action: do.Write) -> None:
        def put(client: Client) -> Awaitable[None]:
            return client.put(action.key, action.value.encode())

        self.facts.writes[action.called] = await self.peers.through(action.through, put)

    async def read(self, action: do.Read) -> None:
        async def get(client: Client) -> None:
            found = await client.get(action.key)
            self.facts.reads[action.called] = None if found is None else found.decode()

        refused = await self.peers.through(action.through, get)
        if refused is not None:
            raise P2PError(f"{action.through} did not answer what {action.key} is: {refused}")
