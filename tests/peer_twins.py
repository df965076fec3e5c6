"""Whole peers on in-memory twins: one clock, one hub, memory disks, trainers played by the test.

Nothing sleeps: time passes in ticks of 10 ms, and all that is random comes from one seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from consensus.node import bootstrap
from p2p.clock import ManualClock
from p2p.content.contract import MemoryContent
from p2p.content.contract import MemoryHub as Files
from p2p.measure.system import System
from p2p.parts import Identity, Parts
from p2p.peer import Peer
from p2p.processes import MemoryChildren
from p2p.raft_host import TICK_S
from p2p.replicated.apply_sessions import Ticket
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.storage.snapshots import SnapshotPolicy
from p2p.trainer_desk import Workplace
from p2p.wire.envelope import Envelope, decode, encode
from p2p.wire.network import Listener, MemoryHub, MemoryNetwork
from tests.peer_fakes import CLUSTER, described
from tools.sim.replicas import Replicas
from tools.sim.trainers import Trainers

STEP_S = 0.01
CLIENT = "127.0.0.1:1"


@dataclass
class Twin:
    """One process of a peer; its disk outlives it."""

    name: str
    peer: Peer
    network: MemoryNetwork
    children: MemoryChildren
    disk: MemoryDisk
    alive: bool = True
    free_bytes: int | None = None
    faults: list[tuple[str, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.players = Trainers(self.children)
        self.replicas = Replicas(self.children)
        self.ticked_s = 0.0


class TwinCluster:
    def __init__(
        self,
        seed: int = 1,
        snapshots: SnapshotPolicy | None = None,
        system: System | None = None,
    ) -> None:
        self.seed = seed
        self.system = system
        self.snapshots = snapshots or SnapshotPolicy()
        self.rng = Random(seed)
        self.clock = ManualClock()
        self.hub = MemoryHub()
        self.files = Files()  # that peers fetch from each other
        self.twins: dict[str, Twin] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.parts: dict[str, list[dict[str, Any]]] = {}  # of answers in parts
        self.may_finish = False
        self.requests = 0
        self.incarnations = 0
        client = MemoryNetwork(self.hub, CLIENT)
        client.start(Listener(self._on_reply, lambda peer, up: None))

    # -- processes -------------------------------------------------------------------------------

    def found(self, name: str = "a", **fields: Any) -> Twin:
        disk = MemoryDisk()
        LogStore(disk).save(*bootstrap(name), must_sync=True)
        twin = self.start(name, disk, **fields)
        twin.peer.raft.node.campaign()
        twin.peer.advance()
        found = {"type": "cluster.found", "cluster_id": CLUSTER, "name": "lab"}
        twin.peer.propose({**found, "member": dict(twin.peer.identity.member)})
        twin.peer.advance()
        return twin

    def join(self, name: str, disk: MemoryDisk | None = None, **fields: Any) -> Twin:
        """A new peer, or one that comes back with its disk; returns when the log knows it."""
        twin = self.start(name, disk or MemoryDisk(), **fields)
        via = self.leader.name if any(t.peer.raft.is_leader for t in self.live()) else name
        answer = self.ask(via, "join", member=dict(twin.peer.identity.member))
        assert "ok" in answer, answer
        self.until(lambda: twin.peer.is_known, f"{name} is known")
        return twin

    def start(
        self,
        name: str,
        disk: MemoryDisk,
        slots: int = 1,
        allow_faults: bool = False,
        port: int | None = None,
    ) -> Twin:
        self.incarnations += 1
        disk.restart()
        port = port or 7_000 + sum(name.encode())
        me = described(name, slots=slots, incarnation=f"i{self.incarnations}", port=port)
        children = MemoryChildren()
        network = MemoryNetwork(self.hub, me["address"])
        twin: Twin

        def later(delay_s: float, callback: Callable[[], None]) -> None:
            self.clock.call_later(delay_s, lambda: callback() if twin.alive else None)

        parts = Parts(
            store=LogStore(disk),
            network=network,
            children=children,
            clock=self.clock,
            rng=Random(self.rng.random()),
            workplace=Workplace(name, "127.0.0.1", "/ipc", {}, "/checkpoints", "/sources"),
            call_later=later,
            measure=lambda: (1_000, 0.5),
            start_peers=lambda count: list(range(count)),
            fault=lambda kind, for_s: twin.faults.append((kind, for_s)),
            new_id=lambda: f"{name}-{self.rng.getrandbits(32):08x}",
            snapshots=self.snapshots,
            system=self.system,
            free_bytes=lambda: twin.free_bytes,
            content=MemoryContent(self.files, name),
        )
        peer = Peer(Identity(name, CLUSTER, me["incarnation"], me, allow_faults), parts)
        twin = self.twins[name] = Twin(name, peer, network, children, disk)
        network.start(Listener(peer.on_message, peer.on_link))
        peer.advance()
        return twin

    def kill(self, name: str) -> MemoryDisk:
        """kill -9: its connections break, its disk stays."""
        twin = self.twins.pop(name)
        twin.alive = False
        twin.network.close()
        return twin.disk

    def isolate(self, name: str) -> None:
        """Cut it off from everybody but the client; no connection breaks."""
        mine = self.twins[name].network.address
        for other in self.twins.values():
            if other.name != name:
                self.hub.cut.add(frozenset({mine, other.network.address}))

    def heal(self) -> None:
        self.hub.cut.clear()

    # -- time ------------------------------------------------------------------------------------

    def step(self) -> None:
        self.clock.advance(STEP_S)
        for twin in self.live():
            if self.clock.now_s - twin.ticked_s >= TICK_S:
                twin.ticked_s = self.clock.now_s
                twin.peer.on_tick()
            twin.players.play(twin.peer.on_trainer, twin.peer.on_trainer_exit, self.may_finish)
            twin.replicas.play(twin.peer.on_trainer, twin.peer.on_trainer_exit)
        self.files.deliver()
        self.settle()
        for _ in range(3):
            self.hub.deliver()
            self.settle()

    def settle(self) -> None:
        """Peers serve what they took in."""
        self.clock.advance(0.0)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def until(self, is_so: Callable[[], object], what: str, within_s: float = 15.0) -> float:
        """Seconds it took. Fails with what was awaited and how to replay."""
        for count in range(round(within_s / STEP_S)):
            if is_so():
                return count * STEP_S
            self.step()
        raise AssertionError(f"not within {within_s} s (seed {self.seed}): {what}")

    # -- questions -------------------------------------------------------------------------------

    def live(self) -> list[Twin]:
        return list(self.twins.values())

    @property
    def leader(self) -> Twin:
        leading = [twin for twin in self.live() if twin.peer.raft.is_leader]
        return max(leading, key=lambda twin: twin.peer.raft.status.term)

    def has_leader(self) -> bool:
        return any(twin.peer.raft.is_leader for twin in self.live())

    def agreed(self) -> bool:
        """All have applied the same, and it is all there is."""
        indexes = {twin.peer.raft.applied for twin in self.live()}
        return len(indexes) == 1 and self.leader.peer.raft.status.last_index in indexes

    def voters(self) -> set[str]:
        return set(self.leader.peer.raft.status.voters)

    def send(
        self,
        name: str,
        verb: str,
        /,
        id: str | None = None,
        ticket: Ticket | None = None,
        **args: Any,
    ) -> str:
        """Ask as a client; the answer will be in `replies`."""
        self.requests += 1
        request = id or f"r{self.requests}"
        body = {"id": request, "verb": verb, "args": args}
        if ticket:
            body["session"] = ticket.to_wire()
        data = encode(Envelope(CLUSTER, "client", "", "request", body))
        self.hub.post(CLIENT, self.twins[name].network.address, data, CLIENT.encode())
        return request

    def ask(self, name: str, verb: str, /, **args: Any) -> dict[str, Any]:
        """{"ok": answer} or {"error": sentence, "exit_code": number}."""
        request = self.send(name, verb, **args)
        self.until(lambda: request in self.replies, f"an answer to {verb}")
        return self.replies[request]

    def _on_reply(self, data: bytes, route: bytes | None) -> None:
        whole = decode(data, CLUSTER).body
        for body in whole.get("several", [whole]):
            if "part" in body:
                self.parts.setdefault(body["id"], []).append(body["part"])
            else:
                self.replies.setdefault(body["id"], body)


def grown(
    count: int, seed: int = 1, snapshots: SnapshotPolicy | None = None, **fields: Any
) -> TwinCluster:
    """A settled cluster of `count` peers "a", "b", …"""
    cluster = TwinCluster(seed, snapshots)
    cluster.found("a", **fields)
    for number in range(1, count):
        cluster.join(chr(ord("a") + number), **fields)
    wanted = {1: 1, 2: 1, 3: 3, 4: 3}.get(count, 5)
    cluster.until(lambda: len(cluster.voters()) == wanted, f"{wanted} voters")
    cluster.until(cluster.agreed, "agreement")
    return cluster
