"""Pure cores in one thread for the tests, and a network that drops what a test wants dropped."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from consensus.changes import ConfChange, ConfChangeType, ConfState, SnapshotMeta
from consensus.config import RaftConfig
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.node import RawNode, ReadState, Ready, Role
from consensus.storage import MemoryStorage

ELECTION, HEARTBEAT = 10, 2


class Peer:
    """One core with its disk. `hold_disk`: nothing becomes durable until release().

    Its state is the list of what it applied; `restored`: the snapshots it started over from.
    """

    def __init__(self, id: str, storage: MemoryStorage, seed: int = 0, **options: Any) -> None:
        settings: dict[str, Any] = {
            "election_ticks": ELECTION,
            "heartbeat_ticks": HEARTBEAT,
        } | options
        config = RaftConfig(id=id, **settings)
        self.id, self.storage = id, storage
        self.node = RawNode(config, storage, Random(f"{seed} {id}"))
        self.applied: list[Entry] = []
        self.restored: list[SnapshotMeta] = []
        self.reads: list[ReadState] = []
        self.hold_disk = False
        self.held: Ready | None = None

    def drain(self) -> list[Message]:
        """Do all the work there is; returns the messages that may leave."""
        out: list[Message] = []
        while self.node.has_ready():
            ready = self.node.ready()
            out += ready.messages_now
            if self.hold_disk and (ready.entries or ready.must_sync or ready.snapshot):
                self.held = ready
                return out
            out += self.finish(ready)
        return out

    def finish(self, ready: Ready) -> tuple[Message, ...]:
        """Persist, apply, advance."""
        if ready.snapshot is not None:
            self.storage.install(ready.snapshot)
            self.restored.append(ready.snapshot)
        self.storage.append(ready.entries)
        self.reads += ready.read_states
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        for entry in ready.committed:
            self.applied.append(entry)
            if entry.type is EntryType.CONF_CHANGE:
                self.node.apply_conf_change(ConfChange.decode(entry.data))
        self.node.advance(ready)
        return ready.messages_after

    def release(self) -> list[Message]:
        """The held write is durable now."""
        self.hold_disk = False
        ready, self.held = self.held, None
        after = [] if ready is None else list(self.finish(ready))
        return after + self.drain()

    def compact(self, keep: int = 0) -> SnapshotMeta:
        """Take a snapshot of all that is applied and forget its entries, but for the last few."""
        status = self.node.status()
        conf = self.node._raft.conf_state
        meta = SnapshotMeta(status.applied, self.storage.term(status.applied), conf)
        self.storage.create_snapshot(meta)
        self.storage.compact(max(0, status.applied - keep))
        return meta

    def step(self, kind: MessageType, sender: str, term: int, **fields: Any) -> list[Message]:
        """Give it a message made by hand; returns what it sends."""
        self.node.step(Message(kind, self.id, sender, term, **fields))
        return self.drain()

    @property
    def data(self) -> list[bytes]:
        """What it applied, without no-ops and configuration."""
        return [e.data for e in self.applied if e.type is EntryType.NORMAL and e.data]

    @property
    def terms(self) -> list[int]:
        """Terms of its durable log, from the first entry that was not compacted away."""
        first, end = self.storage.first_index(), self.storage.last_index() + 1
        return [e.term for e in self.storage.entries(first, end, 1 << 40)]


def base(
    voters: Iterable[str], learners: Iterable[str] = (), index: int = 0, term: int = 0
) -> SnapshotMeta:
    """What a log starts with: these members."""
    return SnapshotMeta(index, term, ConfState(tuple(sorted(voters)), tuple(sorted(learners))))


def lone(
    id: str = "a",
    *,
    voters: Iterable[str] = ("a", "b", "c"),
    learners: Iterable[str] = (),
    terms: Iterable[int] = (),
    term: int = 0,
    vote: str | None = None,
    commit: int = 0,
    **options: Any,
) -> Peer:
    """A peer with a log of these terms (data "1", "2", …) and a configuration older than it."""
    entries = [Entry(i, t, EntryType.NORMAL, b"%d" % i) for i, t in enumerate(terms, 1)]
    hard = HardState(term or (entries[-1].term if entries else 0), vote, commit)
    snapshot = base(voters, learners, commit, entries[commit - 1].term if commit else 0)
    return Peer(id, MemoryStorage(hard, entries, snapshot), **options)


class Cluster:
    """Peers and a network in which the tests decide what arrives."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.peers = {peer.id: peer for peer in peers}
        self.cut: set[str] = set()
        self.drop: Callable[[Message], bool] = lambda message: False
        self.sent: list[Message] = []

    def __getitem__(self, id: str) -> Peer:
        return self.peers[id]

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        while queue := [m for peer in self.peers.values() for m in peer.drain()]:
            self.deliver(queue)

    def deliver(self, queue: Iterable[Message]) -> None:
        """Hand these over (through the wire form), as far as the network lets them pass."""
        for message in queue:
            self.sent.append(message)
            lost = {message.to, message.sender} & self.cut or self.drop(message)
            if not lost and message.to in self.peers:
                self[message.to].node.step(Message.from_wire(message.to_wire()))

    def tick(self, ticks: int = 1, only: Iterable[str] | None = None) -> None:
        """Time passes for all (or for `only`), message by message."""
        for _ in range(ticks):
            for id in self.peers if only is None else only:
                self[id].node.tick()
            self.settle()

    def elect(self, id: str) -> None:
        """Let `id` win now; the others have lost touch with their leader."""
        for peer in self.peers.values():
            peer.node.forget_leader()
        self[id].node.campaign()
        self.settle()
        assert self.role(id) is Role.LEADER

    def role(self, id: str) -> Role:
        return self[id].node.status().role

    def leaders(self) -> list[str]:
        return [id for id in self.peers if self.role(id) is Role.LEADER]

    def propose(self, id: str, data: bytes) -> int:
        index = self[id].node.propose(data)
        self.settle()
        return index

    def change(self, leader: str, kind: ConfChangeType, peer: str) -> None:
        self[leader].node.propose_conf_change(ConfChange.one(kind, peer))
        self.settle()

    def restart(self, id: str, **options: Any) -> Peer:
        """Crash: what was not durable is gone. It starts from its snapshot."""
        self.peers[id] = Peer(id, self[id].storage, **options)
        return self.peers[id]


def cluster(ids: str = "abc", learners: str = "", **options: Any) -> Cluster:
    """Empty peers that all know this configuration."""
    return Cluster(lone(id, voters=ids, learners=learners, **options) for id in ids + learners)


def of_type(messages: Iterable[Message], kind: MessageType) -> list[Message]:
    """Those of one type."""
    return [message for message in messages if message.type is kind]
