"""A leader dies on busy hosts: there is another one soon, and it is left to lead."""

from random import Random

import pytest

from p2p.clock import ManualClock
from p2p.wire.network import MemoryHub, Route
from tests.peer_twins import STEP_S, grown

BUSY_S = 0.05  # a host that others use, too, comes so late to what has arrived
SOON_S = 0.8  # the time-out of an election is 1 s at least


class BusyHub(MemoryHub):
    """Every host reads what came to it at moments of its own; in order, as sockets do."""

    def __init__(self, idle: MemoryHub, clock: ManualClock, rng: Random) -> None:
        super().__init__(idle.queue, idle.networks, idle.cut, idle.linked)
        self.clock, self.rng = clock, rng
        self.reads_s: dict[str, float] = {}

    def deliver(self) -> int:
        now_s = self.clock.monotonic_s()
        late: list[tuple[str, bytes, Route | None]] = []
        due: list[tuple[str, bytes, Route | None]] = []
        waiting = self.queue
        for address in sorted({to for to, _, _ in waiting}):
            at_s = self.reads_s.setdefault(address, now_s + self.rng.uniform(0.0, BUSY_S))
            if at_s <= now_s:
                del self.reads_s[address]
        for message in waiting:
            (late if message[0] in self.reads_s else due).append(message)
        self.queue = due
        count = super().deliver()
        self.queue = late + self.queue
        return count


def after_a_death(seed: int) -> tuple[float, int]:
    """Seconds until the leader dead, another one is known to all others; how many were elected."""
    cluster = grown(5, seed)
    cluster.hub = BusyHub(cluster.hub, cluster.clock, Random(seed))
    for twin in cluster.live():
        twin.network.hub = cluster.hub
    cluster.run(1.0)
    term = cluster.leader.peer.raft.status.term
    cluster.kill(cluster.leader.name)
    terms: set[int] = set()

    def is_led() -> bool:
        told = {(t.peer.raft.status.leader, t.peer.raft.status.term) for t in cluster.live()}
        terms.update(t.peer.raft.status.term for t in cluster.live() if t.peer.raft.is_leader)
        return len(told) == 1 and cluster.has_leader()

    seconds = cluster.until(is_led, "a leader whom all follow")
    for _ in range(round(1.5 / STEP_S)):
        cluster.step()
        is_led()
    return seconds, len(terms - {term})


@pytest.mark.parametrize("seed", range(1, 13))
def test_one_heir_is_elected_and_left_to_lead(seed: int) -> None:
    """Who stood after another had won, because it had not heard of that yet, deposed the new
    leader with a newer term; and those who followed it heard nobody until its lease was over."""
    seconds, leaders = after_a_death(seed)
    assert (seconds < SOON_S, leaders) == (True, 1), f"{seconds:.2f} s, {leaders} leaders"
