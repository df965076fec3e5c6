"""The production core and log store, which tell the simulator what they are asked to do."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

from consensus.changes import ConfChange, ConfState, SnapshotMeta
from consensus.config import RaftConfig
from consensus.messages import Entry, EntryType, HardState, Message
from consensus.node import RawNode, Ready
from consensus.storage import Storage
from p2p.storage.log_store import LogStore
from tools.sim.disk import SimDisk
from tools.sim.shadow import Durable


class Watcher(Protocol):
    def observe(self) -> None: ...
    def has_stepped(self, message: Message, silence_before: int) -> None: ...
    def asks_to_read(self, context: bytes) -> None: ...
    def is_ready(self, ready: Ready) -> None: ...
    def has_advanced(self, ready: Ready) -> None: ...
    def configures(self, index: int, conf: ConfState) -> None: ...


class WatchedNode(RawNode):
    """Tells `watcher` after each input; is_ready comes before the host sees the Ready."""

    def __init__(self, watcher: Watcher, config: RaftConfig, storage: Storage, rng: Random) -> None:
        super().__init__(config, storage, rng)
        self._watcher = watcher
        self._changes: list[int] = []

    def tick(self) -> None:
        super().tick()
        self._watcher.observe()

    def step(self, message: Message) -> None:
        silence = self._raft.election_elapsed
        super().step(message)
        self._watcher.has_stepped(message, silence)
        self._watcher.observe()

    def campaign(self) -> None:
        super().campaign()
        self._watcher.observe()

    def read_index(self, context: bytes) -> None:
        self._watcher.asks_to_read(context)
        super().read_index(context)

    def ready(self) -> Ready:
        ready = super().ready()
        self._changes = [e.index for e in ready.committed if e.type is EntryType.CONF_CHANGE]
        self._watcher.observe()
        self._watcher.is_ready(ready)
        return ready

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        conf = super().apply_conf_change(change)
        self._watcher.configures(self._changes.pop(0), conf)
        self._watcher.observe()
        return conf

    def advance(self, ready: Ready) -> None:
        super().advance(ready)
        self._watcher.has_advanced(ready)
        self._watcher.observe()


class WatchedStore(LogStore):
    """Notes in `durable` what it was told to save, and which writes of the disk belong to it."""

    def __init__(self, disk: SimDisk, durable: Durable, segment_bytes: int) -> None:
        super().__init__(disk, segment_bytes)
        self._touched = disk.touched
        self._shadow = durable

    def save(self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool) -> None:
        self._touched.clear()
        try:
            super().save(hard_state, entries, must_sync)
        finally:
            if must_sync:
                self._shadow.save(hard_state, entries, frozenset(self._touched))
        self._shadow.settle()  # an interrupted sync made nothing sure

    def install(self, meta: SnapshotMeta) -> None:
        self._touched.clear()
        try:
            super().install(meta)
        finally:
            if self._touched:
                self._shadow.install(meta.index, frozenset(self._touched))
        self._shadow.settle()
