"""One simulated peer: its disk and clock, and the process that runs the production Peer on them.

All that happens to the process goes through call(): it may be stopped, or busy with a sync, and
then takes in later what came meanwhile. A sync takes its time within one call: what the call sends
after it leaves later, and a crash before then takes it back.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from consensus.changes import ConfState
from consensus.config import RaftConfig
from consensus.messages import Message
from consensus.node import RawNode, Ready
from consensus.storage import Storage
from p2p.parts import Identity, Parts
from p2p.peer import Peer
from p2p.processes import MemoryChildren
from p2p.storage.disk import DiskFailed
from p2p.trainer_desk import Workplace
from p2p.wire.network import Listener
from tools.sim.clock import SimClock
from tools.sim.disk import PowerGone, SimDisk
from tools.sim.network import SimNetwork
from tools.sim.parameters import MS, SECOND
from tools.sim.process import Process
from tools.sim.shadow import Durable, ShadowLog
from tools.sim.twins import RingShelf, Twins
from tools.sim.watch import WatchedNode, WatchedStore

if TYPE_CHECKING:
    from tools.sim.world import World

INBOX_MAX = 5_000
CLUSTER = "c0ffee"


class View(NamedTuple):
    """What the checks look at after every input."""

    term: int
    vote: str | None
    role: str
    leader: str | None
    commit: int
    applied: int
    last_index: int


class Host:
    def __init__(
        self, name: str, address: str, world: "World", replaces: tuple[str, ...] = ()
    ) -> None:
        """`replaces`: ids under which it ran before it lost its disk."""
        parameters = world.parameters
        self.name = name
        self.address = address
        self.replaces = replaces
        self.world = world
        self.rng: random.Random = world.stream(f"host {name}")
        self.disk = SimDisk(self._synced)
        self.durable = Durable(self.disk, world.oracle.committed)
        self.log = ShadowLog()
        rate = 1 + self.rng.uniform(-1, 1) * parameters.skew
        self.clock = SimClock(lambda: world.now, rate, self.rng.uniform(100.0, 10_000.0))
        self.sync_time = parameters.sync_time
        self.peer: Peer | None = None
        self.process: Process | None = None
        self.core: RawNode | None = None
        self.network: SimNetwork | None = None
        self.trainers: Twins | None = None
        self.view: View | None = None
        self.known_halves: list[frozenset[str]] = []  # the newest, also while it is down
        self.incarnation = 0
        self.applied = 0
        self.paused = False
        self.gone: str | None = None  # why this id never comes back
        self.rotten = self.removing = False  # it may soon be gone
        self.mending = False  # a new id, whose disk still holds a damaged log
        self.sends_left: int | None = None  # until the power goes
        self.spent = 0  # of the call that runs now
        self._busy_until = 0
        self._waking = False
        self._inbox: deque[Callable[[], None]] = deque()

    @property
    def up(self) -> bool:
        return self.peer is not None

    @property
    def is_lost(self) -> bool:
        """Nothing may depend on this id any more."""
        return self.gone is not None or self.rotten or self.removing

    @property
    def is_leader(self) -> bool:
        return self.view is not None and self.view.role == "leader"

    def look(self) -> View:
        """Straight from the core's fields: status() builds far more than each input needs."""
        assert self.core is not None
        raft = self.core._raft
        log = raft.log
        return View(
            raft.term,
            raft.vote,
            raft.role.value,
            raft.leader,
            log.committed,
            log.applied,
            log.last_index(),
        )

    def progress(self) -> dict[str, tuple[int, int]]:
        """Leader only: match and next of each peer."""
        assert self.core is not None
        return {peer: (p.match, p.next) for peer, p in self.core._raft.progress.items()}

    def halves(self) -> list[frozenset[str]]:
        """The voter sets in force on this host, each of which must agree."""
        assert self.core is not None
        voters = self.core._raft.configuration.voters
        return [half for half in (voters.incoming, voters.outgoing) if half]

    def last_term(self) -> int:
        """Of the log as the core has it, not durable perhaps."""
        assert self.core is not None
        return self.core._raft.log.last_term()

    def learners(self) -> frozenset[str]:
        assert self.core is not None
        return frozenset(self.core.status().learners)

    def adopt(self, disk: SimDisk) -> None:
        """The disk of a peer that lost its log there, to which no promise of this one belongs."""
        disk.on_sync = self._synced
        self.disk = disk
        self.durable = Durable(disk, self.world.oracle.committed)

    # -- life and death ----------------------------------------------------------------------------

    def start(self) -> None:
        """A new process on the disk. Raises what the peer raises when it cannot start."""
        world = self.world
        self.incarnation += 1
        self.spent = 0
        self._busy_until = world.now
        store = WatchedStore(self.disk, self.durable, world.parameters.segment_bytes)
        member = {
            "id": self.name,
            "name": f"name-{self.name}",
            "address": self.address,
            "host": f"host-{self.name}",
            "pid": self.incarnation,
            "slots": world.parameters.jobs,
            "version": "0",
            "incarnation": f"{self.name}.{self.incarnation}",
        }
        incarnation = self.incarnation

        def later(delay_s: float, callback: Callable[[], None]) -> None:
            world.after(
                self.spent + self.clock.microseconds(delay_s),
                lambda: self.call(callback) if self.incarnation == incarnation else None,
            )

        self.network = SimNetwork(world.network, self)
        children = MemoryChildren()
        rng = world.stream(f"trainers {self.name} {incarnation}")
        self.trainers = Twins(self.name, children, world.ring, rng)
        parts = Parts(
            store=store,
            network=self.network,
            children=children,
            clock=self.clock,
            rng=random.Random(self.rng.getrandbits(64)),
            workplace=Workplace(self.name, "127.0.0.1", "/ipc", {}, "/checkpoints", "/sources"),
            call_later=later,
            measure=lambda: (1_000, 0.5),
            start_peers=lambda count: list(range(count)),
            fault=lambda kind, for_s: None,
            new_id=lambda: f"{self.name}-{self.rng.getrandbits(32):08x}",
            make_node=self._make_node,
            snapshots=world.parameters.snapshots,
            shelf=RingShelf(self.name, world.ring),
        )
        identity = Identity(self.name, CLUSTER, str(member["incarnation"]), member)
        self.peer = peer = Peer(identity, parts)
        self._check_recovery(store)
        self.network.start(Listener(peer.on_message, peer.on_link))
        self.process = Process(self, peer)
        self.call(self.process.begin)

    def _make_node(self, config: RaftConfig, storage: Storage, rng: random.Random) -> RawNode:
        p = self.world.parameters
        config = replace(
            config,
            election_ticks=p.election_ticks,
            heartbeat_ticks=p.heartbeat_ticks,
            learner_heartbeat_ticks=p.learner_heartbeat_ticks,
            max_append_bytes=p.max_append_bytes,
            max_inflight=p.max_inflight,
        )
        self.core = WatchedNode(self, config, storage, rng)
        return self.core

    def _check_recovery(self, store: WatchedStore) -> None:
        log, storage = ShadowLog(), store.storage
        hard_state, _ = storage.initial_state()
        first, last = storage.first_index(), storage.last_index()
        self.world.checks.snapshot(self, storage.snapshot())
        log.install(first - 1, self.world.oracle.committed)
        log.replace(storage.entries(first, last + 1, 1 << 62))
        self.log = log
        self.applied = storage.snapshot().index
        self.view = self.look()
        self.world.checks.recovered(self, hard_state, log)
        self.world.note(self.name, f"starts term={hard_state.term} log={first}..{last}")
        self.world.checks.start(self, self.view)
        self.world.checks.applied(self)

    def stop(self, power_cut: bool) -> str:
        """Lose everything in memory; returns what became of the writes that were not synced."""
        assert self.network is not None
        self.peer = self.process = self.core = self.view = None
        if self.trainers is not None:
            self.trainers.close()
        self.network.close(silently=power_cut and self.rng.random() < 0.5)
        self.paused = self._waking = False
        self.sends_left = None
        self._inbox.clear()
        self.incarnation += 1
        self.durable.interrupt()
        self.world.network.take_back(self.name, self.world.now)
        # kill -9 alone loses nothing: the kernel still holds the written pages.
        fate = self.disk.lose_power(self.rng) if power_cut else "kept"
        self.disk.end()
        return fate

    # -- the loop ----------------------------------------------------------------------------------

    def call(self, action: Callable[[], None]) -> None:
        """Run it in the process, now or when the process takes in what waits."""
        if self.peer is None:
            return
        if self.paused or self.world.now < self._busy_until or self._inbox:
            if len(self._inbox) < INBOX_MAX:
                self._inbox.append(action)
            self._wake()
            return
        self._run(action)

    def pause(self) -> None:
        self.paused = True

    def unpause(self) -> None:
        self.paused = False
        self._take_inbox()

    def _wake(self) -> None:
        if self.paused or self._waking:
            return
        self._waking = True
        incarnation = self.incarnation

        def wake() -> None:
            if self.incarnation == incarnation:
                self._waking = False
                self._take_inbox()

        self.world.after(max(0, self._busy_until - self.world.now), wake)

    def _take_inbox(self) -> None:
        while self._inbox and not self.paused and self.up:
            if self.world.now < self._busy_until:
                self._wake()
                return
            self._run(self._inbox.popleft())

    def _run(self, action: Callable[[], None]) -> None:
        self.spent = 0
        try:
            action()
            if self.core is not None:
                self.observe()
        except PowerGone:
            self.world.crash(self, power_cut=True)
        except DiskFailed as failed:
            self.world.note(self.name, f"ends: {failed}")
            self.world.counts["peers ended by their disk"] += 1
            self.world.crash(self, power_cut=self.rng.random() < 0.5)
        self._busy_until = self.world.now + self.spent
        self.spent = 0

    def _synced(self) -> None:
        self.world.counts["syncs"] += 1
        if self.sync_time:
            self.spent += int(self.sync_time * (0.5 + self.rng.random()))
        self.durable.settle()

    # -- what the core does (Watcher of watch.py) --------------------------------------------------

    def observe(self) -> None:
        view, before = self.look(), self.view
        if view == before or before is None:
            return
        self.view = view
        world = self.world
        if view.role == "leader" and before.role != "leader":
            world.counts["elections"] += 1
            world.on_elected(self)
        if world.trace is not None:
            world.note(self.name, " ".join(f"{k}={v}" for k, v in view._asdict().items()))
        world.checks.observe(self, view, before)

    def has_stepped(self, message: Message, silence_before: int) -> None:
        assert self.core is not None
        silence = self.core._raft.election_elapsed
        self.world.checks.stepped(self, message, silence - silence_before)

    def asks_to_read(self, context: bytes) -> None:
        self.world.checks.ask_read(self, context)

    def is_ready(self, ready: Ready) -> None:
        self.world.checks.ready(self, ready)

    def has_advanced(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.world.counts["snapshots installed"] += 1
            self.world.note(self.name, f"installs the snapshot at {ready.snapshot.index}")
            self.applied = ready.snapshot.index
            assert self.core is not None
            self.world.checks.installed(self, ready.snapshot, self.core._raft.conf_state)
            self.known_halves = self.halves()
            self.world.checks.applied(self)
        for entry in ready.committed:
            self.world.checks.apply(self, entry)
            self.applied = entry.index
        if ready.committed:
            self.world.checks.applied(self)

    def configures(self, index: int, conf: ConfState) -> None:
        self.known_halves = self.halves()
        if self.world.trace is not None:
            self.world.note(self.name, f"configuration {index}: {conf.voters} + {conf.learners}")
        self.world.checks.configuration(self, index, conf)

    def sends(self, message: Message) -> None:
        """Raises PowerGone when the crash was armed for this message."""
        if self.sends_left is not None:
            if self.sends_left == 0:
                raise PowerGone
            self.sends_left -= 1
        self.world.checks.send(self, message)
        if self.world.trace is not None:
            self.world.note(self.name, describe(message))

    def seconds(self, mean: float) -> int:
        return int(self.rng.expovariate(1 / mean) * SECOND)

    def state(self) -> Any:
        assert self.peer is not None
        return self.peer.state


def describe(message: Message) -> str:
    text = (
        f"-> {message.to} {message.type} term={message.term} index={message.index}"
        f"/{message.log_term} commit={message.commit}"
    )
    if message.entries:
        text += f" entries={len(message.entries)}"
    return text + (f" reject hint={message.reject_hint}" if message.reject else "")


__all__ = ["CLUSTER", "MS", "Host", "View", "describe"]
