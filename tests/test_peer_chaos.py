"""Random deaths, partitions and requests on whole peers in memory; afterwards all must be well.

One seed decides everything. Replay one with `pytest "tests/test_peer_chaos.py::…[seed]"`.
"""

from dataclasses import replace
from random import Random

import pytest

from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.snapshots import SnapshotPolicy
from tests.peer_twins import TwinCluster, grown

EVENTS = (
    *("kill", "kill", "restart", "restart", "isolate", "heal", "transfer", "crash-trainer"),
    *("submit", "pause", "resume", "new", "bounce", "leave", "remove"),
)
PEERS_MAX = 7


class Chaos:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        # Every other time a snapshot is taken, and the log cut, after every single entry.
        policy = SnapshotPolicy(every_entries=1, keep_entries=0, slice_chunks=1)
        snapshots = policy if seed % 2 else SnapshotPolicy()
        self.cluster: TwinCluster = grown(self.rng.choice((3, 4, 5)), seed, snapshots)
        self.disks: dict[str, MemoryDisk] = {}
        self.asked: list[str] = []
        self.log: list[str] = []
        self.removed_s: dict[str, float] = {}  # since when it is known

    def happen(self) -> None:
        kind = self.rng.choice(EVENTS)
        name = self.rng.choice(sorted(self.cluster.twins) or ["-"])
        self.log.append(f"{kind} {name}")
        match kind:
            case "kill" if len(self.cluster.twins) > 1:
                self.disks[name] = self.cluster.kill(name)
            case "restart" if self.disks:
                self.restart(self.rng.choice(sorted(self.disks)))
            case "bounce" if name != "-":
                self.disks[name] = self.cluster.kill(name)
                self.cluster.run(self.rng.choice((0.0, 0.05, 0.3)))
                self.restart(name)
            case "new" if len(self.cluster.twins) + len(self.disks) < PEERS_MAX:
                self.ask_to_join(f"n{len(self.log)}", MemoryDisk())
            case "isolate" if name != "-":
                self.cluster.isolate(name)
            case "heal":
                self.cluster.heal()
            case "leave" if len(self.cluster.twins) > 1:
                self.leave(name)
            case "remove" if len(self.cluster.twins) < 3 or self.cluster.hub.cut:
                return  # who shall take over the last vote must be there
            case "transfer" | "submit" | "pause" | "resume" | "remove" if name != "-":
                self.ask(name, kind)
            case "crash-trainer" if name != "-":
                self.cluster.twins[name].peer.desk.crash()

    def ask(self, name: str, kind: str) -> None:
        args = {
            "transfer": {"peer": name},
            "remove": {"peer": name},
            "submit": {"task": "digits"},
            "pause": {"job": "job-1"},
            "resume": {"job": "job-1"},
        }[kind]
        if kind != "submit" or len(self.asked) < 3:
            request = self.cluster.send(name, kind, **args)
            self.asked += [request] if kind == "submit" else []

    def leave(self, name: str) -> None:
        """As the real host does on SIGTERM: ask until nothing depends on it, at most 4 s."""
        twin = self.cluster.twins[name]
        twin.peer.leaving = True
        until_s = self.cluster.clock.now_s + 4.0

        def drain() -> None:
            if not twin.alive:
                return
            if twin.peer.has_left or self.cluster.clock.now_s > until_s:
                self.disks[name] = self.cluster.kill(name)
                return
            me = twin.peer.state.members.get(name)
            if me is not None and me.state != "left":
                self.cluster.send(name, "leave", peer=name)
            self.cluster.clock.call_later(0.05, drain)

        drain()

    def restart(self, name: str) -> None:
        self.ask_to_join(name, self.disks.pop(name))

    def ask_to_join(self, name: str, disk: MemoryDisk) -> None:
        """As the real host does: ask until the log knows this very process."""
        twin = self.cluster.start(name, disk, slots=2)
        if twin.peer.is_sole_voter:
            twin.peer.raft.node.campaign()
            twin.peer.advance()
        self.cluster.clock.call_later(0.0, lambda: self._try_to_join(name))

    def _try_to_join(self, name: str) -> None:
        twin = self.cluster.twins.get(name)
        if twin is None or twin.peer.is_known:
            return
        via = self.rng.choice(sorted(self.cluster.twins))
        self.cluster.send(via, "join", member=dict(twin.peer.identity.member))
        self.cluster.clock.call_later(0.3, lambda: self._try_to_join(name))

    def calm(self) -> None:
        """Everybody is back and connected: now it must settle."""
        cluster = self.cluster
        cluster.heal()
        cluster.run(4.5)  # whoever was leaving has left
        for name in sorted(self.disks):
            self.restart(name)
        cluster.until(cluster.has_leader, "a leader", 20.0)
        cluster.until(self.no_removed_run, "the removed are gone", 20.0)
        cluster.until(lambda: all(t.peer.is_known for t in cluster.live()), "all known", 20.0)
        cluster.until(cluster.has_leader, "a leader")
        wanted = {1: 1, 2: 1, 3: 3, 4: 3}.get(len(cluster.twins), 5)
        cluster.until(lambda: len(cluster.voters()) == wanted, f"{wanted} voters", 20.0)
        self.check_jobs()
        cluster.until(cluster.agreed, "agreement")
        states = [twin.peer.state for twin in cluster.live()]
        assert all(state == states[0] for state in states)
        assert {told.state for told in states[0].members.values()} == {"alive"}
        assert len([twin for twin in cluster.live() if twin.peer.raft.is_leader]) == 1
        settled = replace(states[0], events=())
        cluster.run(2.0)
        now = replace(cluster.leader.peer.state, events=())
        assert now == settled, "nothing happens, nothing is logged but alerts that are over"

    def no_removed_run(self) -> bool:
        """A removed peer ends itself when it knows, or when its join is refused."""
        if not self.cluster.has_leader():
            return False
        removed = self.cluster.leader.peer.state.removed
        now_s = self.cluster.clock.now_s
        for name in sorted(removed & self.cluster.twins.keys()):
            peer = self.cluster.twins[name].peer
            since_s = self.removed_s.setdefault(name, now_s)
            if (peer.is_removed and peer.has_left) or now_s - since_s > 4.0:
                self.cluster.kill(name)
        if not self.cluster.has_leader():
            return False
        return not removed & (self.cluster.voters() | self.cluster.twins.keys())

    def check_jobs(self) -> None:
        cluster = self.cluster
        for job in sorted(cluster.leader.peer.state.jobs):
            cluster.ask(cluster.leader.name, "resume", job=job)
        cluster.may_finish = True
        cluster.until(
            lambda: all(
                job.state in ("finished", "failed")
                for job in cluster.leader.peer.state.jobs.values()
            ),
            "all jobs end",
            40.0,
        )
        assert len(cluster.leader.peer.state.jobs) <= len(self.asked) + 1, "none twice"


@pytest.mark.parametrize("seed", range(10))
def test_after_any_trouble_all_is_well(seed: int) -> None:
    chaos = Chaos(seed)
    try:
        chaos.ask("a", "submit")
        for _ in range(14):
            chaos.happen()
            chaos.cluster.run(chaos.rng.choice((0.02, 0.2, 1.0, 3.0)))
        chaos.calm()
    except Exception:
        print(f"seed {seed}: {chaos.log}")
        raise
