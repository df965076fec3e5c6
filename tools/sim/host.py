"""One simulated peer: the core, its disk, and the loop around them in the order of the real one.

ready -> send messages_now -> write -> sync -> send messages_after -> apply -> advance, where the
power may go between any two of these, and a slow disk may keep the loop waiting.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from consensus import wal
from consensus.changes import ConfChange, ConfState
from consensus.config import RaftConfig
from consensus.messages import Entry, EntryType, Message
from consensus.node import RawNode, Ready
from consensus.storage import MemoryStorage
from tools.sim.disk import Disk
from tools.sim.parameters import Parameters
from tools.sim.shadow import Batch, Durable, ShadowLog

Input = Callable[[RawNode], None]
CRASH_POINTS = 8


class View(NamedTuple):
    """What the checks look at after every input."""

    term: int
    vote: str | None
    role: str
    leader: str | None
    commit: int
    applied: int
    last_index: int


class Surroundings(Protocol):
    """What a host needs of the world around it."""

    def send(self, host: "Host", message: Message) -> None: ...
    def after(self, delay: int, action: Callable[[], None]) -> None: ...
    def observe(self, host: "Host") -> None: ...
    def is_ready(self, host: "Host", ready: Ready) -> None: ...
    def has_synced(self, host: "Host") -> None: ...
    def applies(self, host: "Host", entry: Entry) -> None: ...
    def configures(self, host: "Host", index: int, conf: ConfState) -> None: ...
    def crash(self, host: "Host", power_cut: bool) -> None: ...


class PowerGone(Exception):
    """The crash that was armed for this point of the loop."""


class Host:
    def __init__(
        self, name: str, world: Surroundings, rng: random.Random, parameters: Parameters
    ) -> None:
        self.name = name
        self.disk = Disk()
        self.durable = Durable()
        self.log = ShadowLog()
        self.core: RawNode | None = None
        self.view: View | None = None
        self.incarnation = 0
        self.applied = 0
        self.next_frame = 1
        self.tick = int(parameters.tick * (1 + rng.uniform(-1, 1) * parameters.skew))
        self.paused = False
        self.destroyed = False
        self.sync_time = parameters.sync_time
        self.crash_at: int | None = None
        self.mutations: frozenset[str] = frozenset()
        self.rng = rng
        self._world = world
        self._overlap = parameters.overlap
        self._drain_delay = parameters.drain_delay
        self._drain_due = False
        self._inbox: deque[Input] = deque()
        self._cycle: Iterator[int] | None = None
        self._sync_done = False

    @property
    def up(self) -> bool:
        return self.core is not None

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

    def voters(self) -> tuple[str, ...]:
        """The voters in force on this host."""
        assert self.core is not None
        return self.core.status().voters

    # Life and death

    def start(self, config: RaftConfig, storage: MemoryStorage) -> None:
        """Bring the core up; the state machine is in memory and starts empty."""
        self.incarnation += 1
        self.applied = 0
        self.core = RawNode(config, storage, random.Random(self.rng.getrandbits(64)))
        self._storage = storage
        self._world.observe(self)

    def stop(self, power_cut: bool) -> str:
        """Lose everything in memory; returns what became of the writes that were not synced."""
        self.core = None
        self.view = None
        self.paused = False
        self.crash_at = None
        self._inbox.clear()
        self._cycle = None
        self._drain_due = self._sync_done = False
        # kill -9 alone loses nothing: the kernel still holds the written pages.
        return self.disk.power_cut(self.rng) if power_cut else "kept"

    # The loop

    def put(self, item: Input) -> None:
        """Hand an input to the core, or queue it while the process is paused or in a sync."""
        if self.core is None:
            return
        if self.paused or (self._cycle is not None and not self._overlap):
            if len(self._inbox) < 5_000:
                self._inbox.append(item)
            return
        self._handle(item)

    def pause(self) -> None:
        self.paused = True

    def unpause(self) -> None:
        self.paused = False
        if self._cycle is not None and self._sync_done:
            self._continue()
        self.drain()
        self._take_inbox()

    def _take_inbox(self) -> None:
        while self._inbox and not self.paused and self.core is not None:
            if self._cycle is not None and not self._overlap:
                return
            self._handle(self._inbox.popleft())

    def _handle(self, item: Input) -> None:
        assert self.core is not None
        item(self.core)
        self._world.observe(self)
        if not self._drain_delay:
            self.drain()
        elif not self._drain_due and self.core.has_ready():
            self._drain_due = True
            incarnation = self.incarnation
            self._world.after(self._drain_delay, lambda: self._drain_later(incarnation))

    def _drain_later(self, incarnation: int) -> None:
        if self.incarnation == incarnation and self.core is not None:
            self._drain_due = False
            if not self.paused:
                self.drain()

    def drain(self) -> None:
        while self.core is not None and self._cycle is None and self.core.has_ready():
            self._cycle = self._process(self.core, self.core.ready())
            self._continue()

    def _continue(self) -> None:
        """Run the cycle on until it waits for the disk, ends, or the power goes."""
        assert self._cycle is not None
        self._sync_done = False
        try:
            wait = next(self._cycle, None)
        except PowerGone:
            self._cycle = None
            self._world.crash(self, True)
            return
        if wait is None:
            self._cycle = None
            return
        incarnation = self.incarnation
        self._world.after(wait, lambda: self._disk_done(incarnation))

    def _disk_done(self, incarnation: int) -> None:
        if self.incarnation != incarnation or self._cycle is None:
            return
        if self.paused:
            self._sync_done = True
            return
        self._continue()
        self.drain()
        self._take_inbox()

    def _process(self, core: RawNode, ready: Ready) -> Iterator[int]:
        self._world.is_ready(self, ready)
        self._power(0)
        if "host-reply-before-sync" in self.mutations:
            self._send(ready.messages_after, 1)
        self._send(ready.messages_now, 1)
        self._write(ready)
        self._power(2)
        if ready.must_sync and "host-never-sync" not in self.mutations:
            if self.sync_time:
                yield int(self.sync_time * (0.5 + self.rng.random()))
            self.disk.sync()
            self.durable.sync()
            self._world.has_synced(self)
        self._power(3)
        if "host-reply-before-sync" not in self.mutations:
            self._send(ready.messages_after, 4)
        for entry in ready.committed:
            self._apply(core, entry)
            self._power(5)
        self._power(6)
        core.advance(ready)
        self._world.observe(self)
        self._power(7)

    def _power(self, point: int) -> None:
        if self.crash_at == point:
            raise PowerGone

    def _send(self, messages: Sequence[Message], point: int) -> None:
        cut = self.rng.randint(0, len(messages)) if self.crash_at == point else None
        for number, message in enumerate(messages):
            if number == cut:
                raise PowerGone
            self._world.send(self, message)
        if cut is not None and messages:
            raise PowerGone

    def _write(self, ready: Ready) -> None:
        if ready.hard_state is None and not ready.entries:
            return
        self.disk.write(wal.encode_batch(self.next_frame, ready.hard_state, ready.entries))
        self.next_frame += 1
        self.durable.write(Batch(ready.hard_state, ready.entries))
        if ready.entries:
            self._storage.append(ready.entries)
        if ready.hard_state is not None:
            self._storage.set_hard_state(ready.hard_state)

    def _apply(self, core: RawNode, entry: Entry) -> None:
        self._world.applies(self, entry)
        self.applied = entry.index
        if entry.type is EntryType.CONF_CHANGE:
            conf = core.apply_conf_change(ConfChange.decode(entry.data))
            self._world.configures(self, entry.index, conf)
            self._world.observe(self)
