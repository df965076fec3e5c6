"""Peers come and go for years: what is kept of them in memory does not grow with their number."""

import asyncio

from p2p.client import KNOWN_MAX, Client
from p2p.wire.keys import ClusterKey
from tests.peer_twins import grown


def test_peers_that_left_are_forgotten_by_those_that_stay() -> None:
    cluster = grown(3)
    for number in range(6):
        guest = f"guest{number}"
        cluster.join(guest)
        cluster.run(0.6)  # it reports
        if number % 2:  # its connections break, and nobody says why
            cluster.kill(guest)
            cluster.run(0.2)
        assert "ok" in cluster.ask(cluster.leader.name, "remove", peer=guest)
        if number % 2 == 0:
            cluster.until(lambda guest=guest: cluster.twins[guest].peer.is_removed, "it knows")
            cluster.kill(guest)
    cluster.join("last")
    cluster.until(cluster.agreed, "agreement")
    stay = {"a", "b", "c", "last"}
    for twin in cluster.live():
        assert twin.peer.state.members.keys() == stay
        leadership, hearing = twin.peer.leadership, twin.peer.hearing
        kept = (leadership._reports, leadership._heard_s, leadership._down_s, hearing._heard_s)
        assert all(told.keys() <= stay for told in kept)
    assert len(cluster.leader.peer.state.removed) == 6, "none of them can come back"


def test_a_client_knows_a_bounded_number_of_peers_and_those_that_live_first() -> None:
    async def main() -> None:
        client = Client(["127.0.0.1:1"], ClusterKey.fresh())
        try:
            for epoch in range(3):
                ports = range(10_000 + 100 * epoch, 10_050 + 100 * epoch)
                rows = [{"state": "alive", "address": f"127.0.0.1:{port}"} for port in ports]
                client._learn({"peers": [*rows, {"state": "dead", "address": "127.0.0.1:2"}]})
            assert len(client._known) == KNOWN_MAX
            assert {row["address"] for row in rows} < set(client._known)
            assert client.address in client._known
            assert "127.0.0.1:2" not in client._known
        finally:
            await client.close()

    asyncio.run(main())
