"""What a reviewer's strangers, clients and members say: answered or dropped, and the peer lives."""

import asyncio
from typing import Any

import pytest

from consensus.messages import Message, MessageType
from p2p.trainer_desk import LEASE_S
from p2p.wire.addresses import is_address
from p2p.wire.envelope import Envelope, encode
from p2p.wire.keys import ClusterKey
from p2p.wire.links import STRANGERS_MAX
from p2p.wire.network import Listener, Route
from p2p.wire.sockets import ZmqNetwork
from tests.peer_fakes import CLUSTER, described
from tests.peer_twins import grown


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("address", ["_a:1", "-a:1", ".:1", "%:1", "]:1"])
def test_a_member_at_no_address_does_not_end_the_cluster(address: str) -> None:
    """Once in the log it would end every peer, at every start."""
    cluster = grown(1)
    member = {**described("z"), "address": address}
    assert cluster.ask("a", "join", member=member)["exit_code"] == 2
    assert list(cluster.leader.peer.state.members) == ["a"]


def test_a_link_to_no_address_is_no_link() -> None:
    async def main() -> None:
        network = ZmqNetwork(ClusterKey.fresh(), "127.0.0.1:0", None)
        try:
            network.start(Listener(lambda data, route: None, lambda peer, up: None))
            network.connect("z", "_a:1")
            assert not network.send("z", b"")
        finally:
            network.close()

    asyncio.run(main())


@pytest.mark.parametrize("depth", [200, 450, 900])
def test_a_request_nested_too_deeply_is_answered(depth: int) -> None:
    cluster = grown(1)
    for args in ({"task": "digits", "options": {"a": nested(depth)}}, {"task": nested(depth)}):
        cluster.ask("a", "submit", **args)
    assert not cluster.leader.peer.requests.waiting
    assert "ok" in cluster.ask("a", "status")


@pytest.mark.parametrize("for_s", ["long", float("nan"), float("inf"), -1.0, 1e300, [1]])
def test_a_pause_of_no_length_is_refused(for_s: Any) -> None:
    cluster = grown(1, allow_faults=True)
    assert cluster.ask("a", "fault", peer="a", kind="pause", for_s=for_s)["exit_code"] == 2
    cluster.run(0.2)
    assert cluster.twins["a"].faults == []


def test_a_peer_that_cannot_be_started_is_said() -> None:
    cluster = grown(1)
    peer = cluster.leader.peer

    def full(count: int) -> list[int]:
        raise OSError(28, "No space left on device")

    object.__setattr__(peer.parts, "start_peers", full)
    assert "No space left" in cluster.ask("a", "add", count=1)["error"]


def test_strangers_do_not_use_up_the_links() -> None:
    cluster = grown(3)
    peer = cluster.twins["a"].peer
    for number in range(5 * STRANGERS_MAX):
        stranger = f"s{number}"
        told = Message(MessageType.HEARTBEAT, stranger, "a", 0)
        assert is_address(f"127.0.0.1:{20_000 + number}")
        body = {"address": f"127.0.0.1:{20_000 + number}", "messages": [told.to_wire()]}
        peer.on_message(encode(Envelope(CLUSTER, stranger, "i", "raft", body)), None)
    links = cluster.twins["a"].network.links
    assert len(links) <= 2 + STRANGERS_MAX
    assert {"b", "c"} <= set(links)


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("submit", {"task": "digits", "name": "n" * 100_000}),
        ("submit", {"task": "digits", "seed": "x"}),
        ("submit", {"task": "digits", "shards": 2**60}),
        ("submit", {"task": "digits", "options": {"a": 1}}),
        ("submit", {"task": "digits", "options": [1]}),
        ("submit", {"task": "digits", "data": 7}),
        ("submit", {"task": "digits", "lr": [1]}),
        ("join", {"member": {**described("z"), "name": "n" * 100_000}}),
        ("join", {"member": {**described("z"), "host": "n" * 100_000}}),
    ],
)
def test_absurd_arguments_are_refused(verb: str, args: dict[str, Any]) -> None:
    cluster = grown(1)
    answer = cluster.ask("a", verb, **args)
    assert answer["exit_code"] == 2
    assert len(answer["error"]) < 1_000
    assert not cluster.leader.peer.state.jobs
    assert list(cluster.leader.peer.state.members) == ["a"]


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_alone_leases_nothing(seed: int) -> None:
    """Its trainers must have stopped before a new leader calls it dead and starts without them."""
    cluster = grown(3, seed=seed)
    assert "ok" in cluster.ask("a", "submit", task="digits")
    cluster.until(lambda: cluster.leader.peer.state.jobs["job-1"].state == "running", "running")
    cluster.run(1.3)
    old = cluster.leader
    cluster.isolate(old.name)
    alone_s = cluster.clock.now_s
    leased_s = [0.0]

    def is_called_dead() -> bool:
        leased_s.extend(old.children.leased_s.values())
        others = [twin for twin in cluster.live() if twin is not old]
        return any(twin.peer.state.members[old.name].state == "dead" for twin in others)

    cluster.until(is_called_dead, "a leader that calls it dead")
    assert alone_s < max(leased_s) <= min(alone_s + LEASE_S + 0.1, cluster.clock.now_s)


def test_what_waited_for_a_stopped_peer_is_no_news_of_its_leader() -> None:
    """What it reads first after it was stopped was sent before the others went on without it."""
    cluster = grown(3)
    assert "ok" in cluster.ask("a", "submit", task="digits")
    cluster.until(lambda: cluster.leader.peer.state.jobs["job-1"].state == "running", "running")
    cluster.run(1.3)
    stopped = next(twin for twin in cluster.live() if twin is not cluster.leader)
    waiting: list[tuple[bytes, Route | None]] = []
    reads = stopped.network.listener.on_message
    stopped.network.listener.on_message = lambda *message: waiting.append(message)
    del cluster.twins[stopped.name]
    stopped_s = cluster.clock.now_s
    cluster.run(0.5)
    stale = len(waiting)
    cluster.run(3.5)
    assert cluster.leader.peer.state.members[stopped.name].state == "dead"

    cluster.twins[stopped.name] = stopped
    for message in waiting[:stale]:
        reads(*message)
    for _ in range(5):  # a tick may come between what waited
        cluster.clock.advance(0.05)
        stopped.peer.on_tick()
        reads(*waiting[stale - 1])
    assert max(stopped.children.leased_s.values()) <= stopped_s + LEASE_S
    for message in waiting[stale:]:
        reads(*message)
    stopped.network.listener.on_message = reads
    woke_s = cluster.clock.now_s
    cluster.until(lambda: cluster.leader.peer.state.members[stopped.name].state == "alive", "back")
    cluster.until(lambda: max(stopped.children.leased_s.values()) > woke_s + 1.0, "a lease")


def test_a_log_is_corrupted_when_the_drill_says_so() -> None:
    """A kill right after the answer must find it done."""
    cluster = grown(1, allow_faults=True)
    assert "ok" in cluster.ask("a", "fault", kind="corrupt", peer="a")
    assert [kind for kind, _ in cluster.leader.faults] == ["corrupt"]
