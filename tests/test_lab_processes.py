"""The ten most telling of the course's situations with real processes, one cluster for all.

Each test begins and ends with three peers that run, vote and agree.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.chaos.aftermath import settle
from tools.chaos.crew import ARGUMENTS, Crew, Member
from tools.chaos.storm import Storm
from tools.chaos.workload import Workload
from tools.linearizability import check

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
WAIT_S = 30.0
SHORT_S = 0.8
VALUES, VALUE_BYTES = 200, 60_000  # 12 MB; a snapshot is due after 8


class Lab:
    def __init__(self, cluster: LocalCluster) -> None:
        self.crew = Crew(cluster)
        self.count = 0

    def settle(self) -> None:
        settle(self.crew, Storm(self.crew, seed=1))
        assert not self.crew.problems
        assert len(self.voters()) == 3

    def voters(self) -> list[str]:
        status = self.crew.ask("status") or {"peers": []}
        return [peer["id"] for peer in status["peers"] if peer["role"] in ("leader", "voter")]

    def cluster_of(self, member: Member) -> dict[str, Any]:
        status = self.crew.ask("status", at=member)
        return status["cluster"] if status else {"leader": None, "term": 0, "quorum": False}

    def until(self, is_so: Callable[[], object], what: str) -> None:
        assert self.crew.until(is_so, what, WAIT_S), self.crew.problems

    @property
    def leader(self) -> Member:
        found: list[Member] = []

        def is_led() -> bool:
            status = self.crew.ask("status")
            leader = status and status["cluster"]["leader"]
            found[:] = [m for m in self.crew.of("up") if m.peer.id == leader]
            return bool(found)

        self.until(is_led, "a leader that runs")
        return found[0]

    @property
    def followers(self) -> list[Member]:
        leader = self.leader
        return [member for member in self.crew.of("up") if member is not leader]

    def put(self, at: Member | None = None, within_s: float = WAIT_S) -> str:
        """A new key. Raises P2PError when it is not acknowledged."""
        self.count += 1
        key = f"w{self.count}"
        asyncio.run(self._call(at, within_s, lambda client: client.put(key, key.encode())))
        return key

    def get(self, key: str, at: Member | None = None, stale: bool = False) -> bytes | None:
        return asyncio.run(self._call(at, WAIT_S, lambda client: client.get(key, stale=stale)))

    async def _call(self, at: Member | None, within_s: float, ask: Callable[[Client], Any]) -> Any:
        asked = [at] if at else self.crew.of("up")
        client = Client([m.peer.address for m in asked], self.crew.cluster.key, within_s)
        try:
            return await ask(client)
        finally:
            await client.close()

    def all_have(self, *keys: str) -> None:
        for member in self.crew.of("up"):
            self.until(
                lambda member=member: all(
                    self.get(key, member, stale=True) == key.encode() for key in keys
                ),
                f"{keys} on {member.name}",
            )

    def bring_back(self, *members: Member) -> None:
        for member in members:
            self.crew.resume(member)
            self.crew.start(member)
        self.settle()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with LocalCluster(ARGUMENTS) as cluster:
        cluster.start()
        cluster.start_many(2)
        lab = Lab(cluster)
        lab.until(lambda: len(lab.voters()) == 3, "three vote")
        lab.settle()
        yield lab


def test_one_leader_on_which_all_agree_and_a_quiet_term(lab: Lab) -> None:
    before = [lab.cluster_of(member) for member in lab.crew.members]
    assert len({(told["leader"], told["term"]) for told in before}) == 1
    time.sleep(1.0)
    after = [lab.cluster_of(member) for member in lab.crew.members]
    assert [told["term"] for told in after] == [told["term"] for told in before]


def test_another_leads_when_the_leader_is_killed_and_the_old_one_follows(lab: Lab) -> None:
    old = lab.leader
    lab.crew.kill(old)
    key = lab.put()
    new = lab.leader
    assert new is not old
    lab.bring_back(old)
    assert lab.cluster_of(old)["leader"] == new.peer.id
    lab.all_have(key)


def test_nobody_leads_without_a_majority_and_somebody_does_with_it(lab: Lab) -> None:
    first, second = lab.crew.members[:2]
    lab.crew.kill(first)
    lab.crew.kill(second)
    (alone,) = lab.crew.of("up")
    lab.until(lambda: not lab.cluster_of(alone)["quorum"], "it knows that it is alone")
    with pytest.raises(P2PError):
        lab.put(within_s=SHORT_S)
    with pytest.raises(P2PError):  # nor may it answer what others might have changed
        asyncio.run(lab._call(alone, SHORT_S, lambda client: client.get("w1")))
    lab.crew.start(first)
    lab.put()
    lab.bring_back(second)


def test_a_follower_that_was_down_catches_up(lab: Lab) -> None:
    follower = lab.followers[0]
    before = lab.put()
    lab.crew.kill(follower)
    keys = [lab.put() for _ in range(20)]
    lab.bring_back(follower)
    lab.all_have(before, *keys[:1], *keys[-1:])


def test_nothing_is_agreed_while_both_followers_hang(lab: Lab) -> None:
    leader, followers = lab.leader, lab.followers
    for follower in followers:
        lab.crew.pause(follower)
    with pytest.raises(P2PError):
        lab.put(at=leader, within_s=SHORT_S)
    lab.bring_back(*followers)
    lab.all_have(lab.put())


def test_a_cut_off_leader_with_entries_of_its_own_gives_way(lab: Lab) -> None:
    old = lab.leader
    lab.crew.ask("fault", at=old, kind="partition", peer=old.peer.id, for_s=60.0)
    with pytest.raises(P2PError):
        lab.put(at=old, within_s=SHORT_S)
    lost = f"w{lab.count}"
    others = [member for member in lab.crew.members if member is not old]
    lab.until(
        lambda: lab.cluster_of(others[0])["leader"] in [member.peer.id for member in others],
        "another leader",
    )
    kept = lab.put(at=others[0])
    lab.crew.ask("fault", at=old, kind="heal", peer=old.peer.id)
    lab.settle()
    lab.all_have(kept)
    assert lab.get(lost, old) == lab.get(lost, others[0])


def test_who_was_down_too_long_gets_the_state(lab: Lab) -> None:
    """More is written than the leader keeps of its log, so only a snapshot can help."""
    victim = lab.followers[0]
    lab.crew.kill(victim)
    before = sorted(victim.folder.glob("*snap*"))

    async def fill() -> None:
        client = lab.crew.client()
        try:
            await asyncio.gather(
                *(client.put(f"big{n % 8}", bytes(VALUE_BYTES)) for n in range(VALUES))
            )
        finally:
            await client.close()

    asyncio.run(fill())
    key = lab.put()
    lab.bring_back(victim)
    lab.all_have(key)
    assert sorted(victim.folder.glob("*snap*")) != before


def test_all_are_killed_and_what_was_agreed_is_there(lab: Lab) -> None:
    keys = [lab.put() for _ in range(5)]
    members = lab.crew.of("up")
    for member in members:
        lab.crew.kill(member)
    lab.bring_back(*members)
    lab.all_have(*keys)


def test_kills_roll_over_all_peers(lab: Lab) -> None:
    keys = []
    for member in list(lab.crew.members):
        lab.crew.kill(member)
        keys.append(lab.put())
        lab.crew.start(member)
        keys.append(lab.put())
    lab.settle()
    lab.all_have(*keys)


def test_clients_on_a_bad_network_see_one_history(lab: Lab) -> None:
    workload = Workload(lambda: lab.crew.addresses, lab.crew.cluster.key, clients=3, seed=5)
    for kind in ("drop", "delay"):
        member = lab.leader if kind == "drop" else lab.followers[0]
        lab.crew.ask("fault", at=member, kind=kind, peer=member.peer.id, for_s=60.0)
    workload.start()
    lab.until(lambda: workload.counts["ok"] >= 50, "fifty operations")
    workload.stop()
    lab.settle()
    verdict = check(workload.history)
    assert verdict.ok, verdict.sentence
