"""What a peer is given: who it is, and the world as it sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from consensus.node import RawNode
from p2p.checkpoints.shelf import Shelf
from p2p.clock import Clock
from p2p.content.contract import Content, MemoryContent
from p2p.devices.gpus import NO_GPUS, Gpus
from p2p.measure.system import System
from p2p.processes import Children
from p2p.raft_host import MakeNode
from p2p.storage.log_store import LogStore
from p2p.storage.snapshots import DEFAULT_POLICY, SnapshotPolicy
from p2p.trainer_desk import Workplace
from p2p.watch.notify import MemoryNotify, Notify
from p2p.watch.rule import Rule
from p2p.watch.rules import BUILT_IN
from p2p.wire.network import Network
from p2p.workers import MemoryWorkers, Workers


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this process is; `member` has the fields of state.Member without its state."""

    id: str
    cluster: str
    incarnation: str
    member: Mapping[str, Any]
    allow_faults: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """The world as this peer sees it: real parts, or their twins."""

    store: LogStore
    network: Network
    children: Children
    clock: Clock
    rng: Random
    workplace: Workplace
    call_later: Callable[[float, Callable[[], None]], object]
    measure: Callable[[], tuple[int, float]]  # own resident bytes, own CPU percent
    start_peers: Callable[[int], list[int]]  # that join this cluster; returns their pids
    fault: Callable[[str, float | None], None]  # carries out a drill on this very process
    new_id: Callable[[], str]
    gpus: Gpus = NO_GPUS
    make_node: MakeNode = RawNode  # the simulator watches the core through a class of its own
    snapshots: SnapshotPolicy = DEFAULT_POLICY
    content: Content = field(default_factory=MemoryContent)
    shelf: Shelf | None = None  # None = of its own, in memory
    workers: Workers = field(default_factory=MemoryWorkers)
    data_dir: str = ""
    system: System | None = None  # None = nothing is measured
    free_bytes: Callable[[], int | None] = lambda: None  # of memory; None = not known
    # Files by name, into a folder (p2p.replicas.folders).
    gather: Callable[[str, Mapping[str, str]], None] = lambda folder, files: None
    rules: tuple[Rule, ...] = BUILT_IN
    notify: Notify = field(default_factory=MemoryNotify)
