"""Simulated peers, all in one process, on one clock: many crash at once, the rest must agree again.

Whole production peers on in-memory twins. They begin as if they had been one cluster for long: all
have the same snapshot, in which every peer is a member and five vote.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, HardState
from p2p.clock import ManualClock
from p2p.control.autopilot import voters_wanted
from p2p.errors import P2PError
from p2p.parts import Identity, Parts
from p2p.peer import Peer
from p2p.processes import MemoryChildren
from p2p.raft_host import TICK_S
from p2p.replicated.state import Member, State
from p2p.replicated.wire import to_chunks
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.trainer_desk import Workplace
from p2p.wire.envelope import Envelope, decode, encode
from p2p.wire.network import Listener, MemoryHub, MemoryNetwork

CLUSTER = "simulated"
CLIENT = "127.0.0.1:1"
STEP_S = 0.01
ROUNDS = 3  # deliveries per step: a message travels in a third of it
WITHIN_S = 60.0
INDEX = 10


def main(count: int, crashes: int, seed: int) -> int:
    from_s = time.monotonic()
    try:
        many = Many(count, seed)
        _say(from_s, f"{count} peers loaded their state")
        took_s = many.until(many.is_quiet, "a leader whom all follow")
        _say(from_s, f"one leads, all follow and are told alive: {took_s:.2f} simulated s")
        many.crash(crashes)
        key = many.put("after", b"the crash")
        took_s = many.until(lambda: many.is_answered(key), "a commit")
        _say(from_s, f"{crashes} crashed at once, the leader too; next commit: {took_s:.2f} s")
        took_s += many.until(many.has_converged, "convergence")
        _say(from_s, f"all {len(many.peers)} agree on log, members and voters: {took_s:.2f} s")
        _say(from_s, many.traffic())
        return 0
    except P2PError as error:
        print(f"failed: {error}; python -m tools.scale --simulated {count} --seed {seed}")
        return 1


class Many:
    def __init__(self, count: int, seed: int) -> None:
        self.rng = Random(seed)
        self.clock = ManualClock()
        self.hub = MemoryHub()
        self.peers: dict[str, Peer] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, MemoryNetwork] = {}
        self.commands = self.delivered = 0
        client = MemoryNetwork(self.hub, CLIENT)
        client.start(Listener(self._on_reply, lambda peer, up: None))
        self.names = [f"p{number:04}" for number in range(count)]
        members = {name: self._member(name) for name in self.names}
        disk = _disk(State(cluster_id=CLUSTER, name=CLUSTER, members=members), self.names)
        for name in self.names:
            self._start(name, members[name], deepcopy(disk))

    def _member(self, name: str) -> Member:
        address = f"{name}:{7_000}"
        return Member(name, name, address, name, 1, 0, "1", f"i-{name}")

    def _start(self, name: str, member: Member, disk: MemoryDisk) -> None:
        network = MemoryNetwork(self.hub, member.address)
        parts = Parts(
            store=LogStore(disk),
            network=network,
            children=MemoryChildren(),
            clock=self.clock,
            rng=Random(self.rng.random()),
            workplace=Workplace(name, "127.0.0.1", "/ipc", {}, "/checkpoints", "/sources"),
            call_later=lambda delay_s, callback: self._later(name, delay_s, callback),
            measure=lambda: (1_000, 0.5),
            start_peers=lambda count: [],
            fault=lambda kind, for_s: None,
            new_id=lambda: f"{name}-{self.rng.getrandbits(32):08x}",
        )
        told = {slot: getattr(member, slot) for slot in Member.__slots__ if slot != "state"}
        peer = Peer(Identity(name, CLUSTER, member.incarnation, told), parts)
        network.start(Listener(peer.on_message, peer.on_link))
        self.peers[name], self.networks[name] = peer, network
        peer.advance()

    def _later(self, name: str, delay_s: float, callback: Callable[[], None]) -> None:
        self.clock.call_later(delay_s, lambda: callback() if name in self.peers else None)

    # -- what happens ---------------------------------------------------------------------------

    def step(self) -> None:
        """STEP_S pass; a fifth of the peers tick, so that all do once in TICK_S."""
        turn = round(self.clock.now_s / STEP_S) % round(TICK_S / STEP_S)
        for name in self.names[turn :: round(TICK_S / STEP_S)]:
            if name in self.peers:
                self.peers[name].on_tick()
        for _ in range(ROUNDS):
            self.delivered += self.hub.deliver()
            self.clock.advance(STEP_S / ROUNDS)

    def until(self, is_so: Callable[[], bool], what: str) -> float:
        """Simulated seconds it took. Raises P2PError after WITHIN_S of them."""
        from_s = self.clock.now_s
        while not is_so():
            if self.clock.now_s - from_s > WITHIN_S:
                raise P2PError(f"no {what} within {WITHIN_S:g} simulated seconds")
            for _ in range(5):
                self.step()
        return self.clock.now_s - from_s

    def crash(self, count: int) -> None:
        """kill -9 of the leader and others, never of so many voters that no majority is left."""
        leader = self.leader()
        voters = set(leader.raft.status.voters)
        fatal = (len(voters) - 1) // 2 - 1  # besides the leader
        others = self.rng.sample(sorted(voters - {leader.identity.id}), fatal)
        learners = self.rng.sample(sorted(self.peers.keys() - voters), count - 1 - fatal)
        for name in [leader.identity.id, *others, *learners]:
            del self.peers[name]
            self.networks[name].close()

    def put(self, key: str, value: bytes) -> str:
        """Ask a peer that lives; the client repeats it until it is answered."""
        self.commands += 1
        request = f"r{self.commands}"
        self._ask(request, key, value)
        return request

    def _ask(self, request: str, key: str, value: bytes) -> None:
        name = self.rng.choice(sorted(self.peers))
        body = {"id": request, "verb": "put", "args": {"key": key, "value": value}}
        data = encode(Envelope(CLUSTER, "client", "", "request", body))
        self.hub.post(CLIENT, self.networks[name].address, data, CLIENT.encode())

    def _on_reply(self, data: bytes, route: bytes | None) -> None:
        body = decode(data, CLUSTER).body
        self.replies[body["id"]] = body

    # -- questions ------------------------------------------------------------------------------

    def leader(self) -> Peer:
        leading = [peer for peer in self.peers.values() if peer.raft.is_leader]
        return max(leading, key=lambda peer: peer.raft.status.term)

    def is_answered(self, request: str) -> bool:
        told = self.replies.pop(request, None)
        if told is not None and "ok" in told:
            return True
        if told is not None or self.rng.random() < 0.2:
            self._ask(request, "after", b"the crash")
        return False

    def is_quiet(self) -> bool:
        """One leads, all have applied what it has, and nobody is called dead who lives."""
        if not any(peer.raft.is_leader for peer in self.peers.values()):
            return False
        leader = self.leader()
        last = leader.raft.status.last_index
        return all(peer.raft.applied == last for peer in self.peers.values()) and all(
            leader.state.members[name].state == "alive" for name in self.peers
        )

    def has_converged(self) -> bool:
        """Quiet; the crashed are called dead, and as many vote as should, all of them alive."""
        if not self.is_quiet():
            return False
        leader = self.leader()
        voters = set(leader.raft.status.voters)
        dead = {m.id for m in leader.state.members.values() if m.state == "dead"}
        wanted = voters_wanted(len(self.peers))
        gone = set(self.names) - self.peers.keys()
        return dead == gone and len(voters) == wanted and voters <= self.peers.keys()

    def traffic(self) -> str:
        links = sum(len(network.links) for network in self.networks.values())
        return f"{self.delivered} messages and link changes, {links} links"


def _disk(state: State, names: list[str]) -> MemoryDisk:
    """The disk of a peer that has a snapshot of `state` and an empty log after it."""
    disk = MemoryDisk()
    store = LogStore(disk)
    voters = names[: voters_wanted(len(names))]
    conf = ConfState(tuple(voters), tuple(names[len(voters) :]))
    meta = SnapshotMeta(INDEX, 1, conf)
    entries = [Entry(index, 1) for index in range(1, INDEX + 1)]
    store.save(HardState(1, None, INDEX), entries, must_sync=True)
    snapshot = store.begin_snapshot(meta)
    for chunk in to_chunks(state):
        snapshot.write(chunk)
    snapshot.finish()
    store.compact(INDEX)
    return disk


def _say(from_s: float, text: str) -> None:
    print(f"{time.monotonic() - from_s:8.2f} s {text}", flush=True)
