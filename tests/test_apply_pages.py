"""A long log is applied in pages: what arrives meanwhile, heartbeats above all, gets its turn."""

from p2p.raft_host import APPLY_BYTES_MAX
from tests.peer_twins import TwinCluster, grown

COUNT = 1_000
VALUE = b"x" * 200


def fill(cluster: TwinCluster) -> int:
    """Many commands at once at the leader, before it looks; returns the index of the last."""
    leader = cluster.leader.peer
    return max(
        leader.propose({"type": "store.put", "key": str(number), "value": VALUE})
        for number in range(COUNT)
    )


def test_a_page_at_a_time() -> None:
    cluster = grown(3)
    last, steps, applied = fill(cluster), [], cluster.leader.peer.raft.applied
    pump = cluster.leader.peer.raft.pump

    def pumped() -> None:
        before = cluster.leader.peer.raft.applied
        pump()
        steps.append(cluster.leader.peer.raft.applied - before)

    cluster.leader.peer.raft.pump = pumped  # type: ignore[method-assign]
    cluster.until(lambda: cluster.leader.peer.raft.applied >= last, "all is applied")
    assert sum(steps) >= last - applied
    assert max(steps) <= APPLY_BYTES_MAX // len(VALUE) + 1
    cluster.until(lambda: all(t.peer.raft.applied >= last for t in cluster.live()), "everywhere")


def test_what_the_disk_holds_is_applied_before_a_peer_speaks() -> None:
    cluster = grown(1)
    last = fill(cluster)
    cluster.until(lambda: cluster.leader.peer.raft.applied >= last, "all is applied")
    cluster.ask("a", "put", key="last", value=b"")  # its frame says what is committed before it
    again = cluster.start("a", cluster.kill("a"))
    assert again.peer.raft.applied >= last
    assert len(again.peer.state.store) >= COUNT
