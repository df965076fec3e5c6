"""The one clock and queue of a run, the hosts, and everything that passes between them."""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from consensus import wal
from consensus.changes import ConfChange, ConfChangeType, ConfState
from consensus.config import RaftConfig
from consensus.messages import Entry, EntryType, HardState, Message
from consensus.node import RawNode, Ready, bootstrap
from consensus.storage import MemoryStorage
from tools.sim.checks import Checks
from tools.sim.host import Host
from tools.sim.network import Network
from tools.sim.oracle import Oracle
from tools.sim.parameters import SECOND, Parameters
from tools.sim.recovery import recover
from tools.sim.shadow import Batch
from tools.sim.violation import Violation

Action = Callable[[], None]
PEERS_EVER_MAX = 14
WIRE_SAMPLE = 0.02  # of the messages go through their wire form


class World:
    def __init__(
        self, parameters: Parameters, mutations: frozenset[str] = frozenset(), tracing: bool = False
    ) -> None:
        self.parameters = parameters
        self.now = 0
        self.events = 0
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = [] if tracing else None
        self.hosts: dict[str, Host] = {}
        self.oracle = Oracle()
        self.checks = Checks(self.oracle, self.hosts)
        self.network = Network(parameters, self.stream("network"), self.counts)
        self.mutations = mutations
        self.on_elected: Callable[[Host], None] = lambda host: None
        self._rng = self.stream("world")
        self._queue: list[tuple[int, int, Action]] = []
        self._order = count()

    def stream(self, purpose: str) -> random.Random:
        """Random numbers of one purpose, so that a change in one place does not move all others."""
        return random.Random(f"{self.parameters.seed}/{purpose}")

    def note(self, host: str, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now / SECOND:.6f} {host} {text}")

    # Time

    def after(self, delay: int, action: Action) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run_until(self, end: int) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action = heapq.heappop(queue)
            self.events += 1
            action()
        self.now = end

    # Hosts

    def found(self) -> None:
        """The first host alone, or all with the log that a founder and its joiners would share."""
        peers = self.parameters.peers
        if self.parameters.grown:
            peers = 1
        names = [self.add_host() for _ in range(peers)]
        hard_state, entries = bootstrap(names[0])
        for index, name in enumerate(names[1:], 2):
            change = ConfChange.one(ConfChangeType.ADD_VOTER, name)
            entries.append(Entry(index, 1, EntryType.CONF_CHANGE, change.encode()))
        hard_state = HardState(hard_state.term, hard_state.vote, len(entries))
        for name in names:
            self.seed_disk(self.hosts[name], hard_state, entries)
            self.start(self.hosts[name])

    def add_host(self) -> str:
        """A new peer with an empty disk; an id is never used twice."""
        name = f"n{len(self.hosts) + 1}"
        host = Host(name, self, self.stream(f"host {name}"), self.parameters)
        host.mutations = self.mutations
        self.hosts[name] = host
        return name

    def seed_disk(self, host: Host, hard_state: HardState, entries: Sequence[Entry]) -> None:
        host.disk.write(wal.encode_start(1, HardState(), (0, 0)))
        host.disk.write(wal.encode_batch(2, hard_state, entries))
        host.disk.sync()
        host.durable.accept(Batch(hard_state, entries))

    def start(self, host: Host) -> None:
        """Read the disk back through the codec and start a fresh core on it."""
        hard_state, entries = recover(host)
        p = self.parameters
        config = RaftConfig(
            id=host.name,
            election_ticks=p.election_ticks,
            heartbeat_ticks=p.heartbeat_ticks,
            max_append_bytes=p.max_append_bytes,
            max_inflight=p.max_inflight,
        )
        host.start(config, MemoryStorage(hard_state, entries))
        if self.trace is not None:
            self.note(host.name, f"starts term={hard_state.term} log={len(entries)}")
        assert host.view is not None
        self.checks.start(host, host.view)
        incarnation = host.incarnation
        self.after(self._rng.randint(0, host.tick), lambda: self._tick(host, incarnation))
        host.drain()

    def _tick(self, host: Host, incarnation: int) -> None:
        if host.incarnation != incarnation or not host.up:
            return
        self.after(host.tick, lambda: self._tick(host, incarnation))
        if not host.paused:  # a process that was stopped does not catch up on lost ticks
            host.put(RawNode.tick)

    def crash(self, host: Host, power_cut: bool) -> None:
        if not host.up:
            return
        fate = host.stop(power_cut)
        self.counts["power cuts" if power_cut else "kills"] += 1
        if power_cut and fate != "clean":
            self.counts[f"unsynced writes {fate}"] += 1
        self.note(host.name, f"{'loses power' if power_cut else 'is killed'} ({fate})")
        down = int(self._rng.expovariate(1 / self.parameters.down_for))
        self.after(down, lambda: self.restart(host))

    def restart(self, host: Host) -> None:
        if not host.up and not host.destroyed:
            self.start(host)

    def up(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.up]

    def leaders(self) -> list[Host]:
        """Whoever believes to lead; during a partition that may be several, in different terms."""
        return [host for host in self.hosts.values() if host.is_leader]

    # What hosts do (the Surroundings of host.py)

    def send(self, host: Host, message: Message) -> None:
        self.checks.send(host, message)
        self.counts["messages"] += 1
        if self.trace is not None:
            self.note(host.name, describe(message))
        if self._rng.random() < WIRE_SAMPLE and Message.from_wire(message.to_wire()) != message:
            raise Violation("wire", f"{message.type} changes on its way through the wire form.")
        for arrival in self.network.arrivals(message, self.now):
            self.after(arrival - self.now, lambda: self.deliver(message))

    def deliver(self, message: Message) -> None:
        host = self.hosts.get(message.to)
        if host is not None:
            host.put(lambda core: self._step(host, core, message))

    def _step(self, host: Host, core: RawNode, message: Message) -> None:
        core.step(message)
        self.checks.stepped(host, message)

    def observe(self, host: Host) -> None:
        view = host.look()
        before = host.view
        if view == before:
            return
        host.view = view
        if before is None:
            return
        if view.role == "leader" and before.role != "leader":
            self.counts["elections"] += 1
            self.on_elected(host)
        if self.trace is not None:
            self.note(host.name, " ".join(f"{k}={v}" for k, v in view._asdict().items()))
        self.checks.observe(host, view, before)

    def is_ready(self, host: Host, ready: Ready) -> None:
        self.checks.ready(host, ready)

    def has_synced(self, host: Host) -> None:
        self.counts["syncs"] += 1
        self.checks.synced(host)

    def applies(self, host: Host, entry: Entry) -> None:
        self.checks.apply(host, entry)

    def configures(self, host: Host, index: int, conf: ConfState) -> None:
        self.note(host.name, f"configuration {index}: {conf.voters} + {conf.learners}")
        self.checks.configuration(host, index, conf)


def describe(message: Message) -> str:
    text = (
        f"-> {message.to} {message.type} term={message.term} index={message.index}"
        f"/{message.log_term} commit={message.commit}"
    )
    if message.entries:
        text += f" entries={len(message.entries)}"
    return text + (f" reject hint={message.reject_hint}" if message.reject else "")
