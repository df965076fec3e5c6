"""Asks every peer all the time who it is that leads, and notes what the cluster says happened."""

import asyncio
import contextlib

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.scenarios.facts import Facts
from p2p.scenarios.news import Fact, Tell

LOOK_EVERY_S = 0.2
ANSWER_S = 1.0
# Of the cluster's events, those that people are told while a scenario plays.
TOLD = ("generation", "barrier", "went-back", "checkpoint", "fault", "peer-dead", "peer-left")


class Witness:
    """Writes into `facts`: leaders by term, names, events. Each peer has a client of its own."""

    def __init__(self, cluster: LocalCluster, facts: Facts, tell: Tell) -> None:
        self._cluster, self._facts, self._tell = cluster, facts, tell
        self._clients: dict[str, Client] = {}
        self._since = 0

    async def watch(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for client in self._clients.values():
                await client.close()

    async def look(self) -> None:
        peers = [peer for peer in self._cluster.peers if peer.told and peer.is_running]
        await asyncio.gather(*(self._look_at(peer) for peer in peers))

    async def _look_at(self, peer: LocalPeer) -> None:
        if peer.id not in self._clients:
            self._clients[peer.id] = Client([peer.address], self._cluster.key, ANSWER_S)
        client = self._clients[peer.id]
        with contextlib.suppress(P2PError):  # it starts, or ends, or is paused
            told = await client.request("status")
            for one in told["peers"]:
                self._facts.names[one["id"]] = one["name"]
            if told["cluster"]["leader"] == told["view_from"]:
                self._leads(told["view_from"], told["cluster"]["term"])
            self._note((await client.request("events", since=self._since))["events"])

    def _leads(self, peer: str, term: int) -> None:
        known = self._facts.leaders.setdefault(term, set())
        if peer not in known:
            known.add(peer)
            self._tell(Fact(f"{self._facts.names.get(peer, peer)} leads term {term}"))

    def _note(self, events: list[dict[str, object]]) -> None:
        for event in events:
            index, text = int(str(event["index"])), str(event["text"])
            if index <= self._since:
                continue  # another peer told of it meanwhile
            self._since = index
            self._facts.events.append(text)
            if event["kind"] in TOLD:
                self._tell(Fact(text))
