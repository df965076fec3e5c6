"""Runs the consensus core: persists, sends and applies what it asks for, in that order."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import msgpack

from consensus.config import RaftConfig
from consensus.errors import ProposalDropped, TransferRefused
from consensus.messages import ConfChange, ConfChangeType, Entry, EntryType, Message
from consensus.node import RawNode, Role, Status
from consensus.storage import Storage
from p2p.errors import NoQuorum, P2PError, Usage
from p2p.log_store import LogStore

TICK_S = 0.05
HEARTBEAT_TICKS = 2
ELECTION_TICKS = 20
# An entry must fit into an envelope, or no follower could ever get it.
COMMAND_BYTES_MAX = 4 * 1024 * 1024
BATCH_BYTES_MAX = 4 * 1024 * 1024

CONF_TYPES = {
    "add-voter": ConfChangeType.ADD_VOTER,
    "add-learner": ConfChangeType.ADD_LEARNER,
    "remove": ConfChangeType.REMOVE,
}

MakeNode = Callable[[RaftConfig, Storage, Random], RawNode]


class RaftHost:
    """`send(peer, messages)` and `on_command(index, command)` are the way out, by pump() alone."""

    def __init__(
        self,
        self_id: str,
        store: LogStore,
        rng: Random,
        send: Callable[[str, list[Message]], None],
        on_command: Callable[[int, Mapping[str, Any]], None],
        make_node: MakeNode = RawNode,
    ) -> None:
        self._store = store
        self._send = send
        self._on_command = on_command
        self._pumping = False
        self.applied = 0
        config = RaftConfig(
            id=self_id, election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS
        )
        self.node = make_node(config, store.storage, rng)
        self._status = self.node.status()

    @property
    def status(self) -> Status:
        """As of the last pump or tick."""
        return self._status

    @property
    def is_leader(self) -> bool:
        return self._status.role is Role.LEADER

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.node.tick()

    def step(self, message: Message) -> None:
        self.node.step(message)

    def propose(self, command: Mapping[str, Any]) -> int:
        """Append to the log; returns the index. Raises NoQuorum if this peer cannot lead now."""
        data = msgpack.packb(dict(command))
        if len(data) > COMMAND_BYTES_MAX:
            raise Usage(f"{len(data)} bytes are too many for the log: keep data out of the request")
        try:
            index = self.node.propose(data)
        except ProposalDropped as dropped:
            raise NoQuorum(f"no leader takes proposals now ({dropped}); try again") from dropped
        return index

    def change(self, action: str, peer: str) -> int | None:
        """Propose a configuration change; None if the core's guards refuse it for now."""
        try:
            return self.node.propose_conf_change(ConfChange(CONF_TYPES[action], peer))
        except ProposalDropped:
            return None

    def transfer(self, peer: str) -> None:
        """Raises P2PError with the reason if leadership cannot go there."""
        try:
            self.node.transfer_leader(peer)
        except TransferRefused as refused:
            raise P2PError(str(refused)) from refused

    def forget_leader(self, peer: str) -> None:
        """Its connection broke: if it leads, others may be voted for at once."""
        if self.node.status().leader == peer:
            self.node.forget_leader()
            self._status = self.node.status()

    def pump(self) -> None:
        """Do everything the core asks for now: what was taken in since the last time as one batch,
        with one sync. What the others need leaves before it, so that their disks work beside ours.
        """
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.node.has_ready():
                ready = self.node.ready()
                self._send_all(ready.messages_now)
                if ready.hard_state is not None or ready.entries:
                    self._store.save(ready.hard_state, ready.entries, ready.must_sync)
                self._send_all(ready.messages_after)
                for entry in ready.committed:
                    self._apply(entry)
                self.node.advance(ready)
                self._status = self.node.status()
        finally:
            self._pumping = False
            self._status = self.node.status()

    def _apply(self, entry: Entry) -> None:
        self.applied = entry.index
        if entry.type is EntryType.CONF_CHANGE:
            self.node.apply_conf_change(ConfChange.decode(entry.data))
        elif entry.data:
            self._on_command(entry.index, msgpack.unpackb(entry.data))

    def _send_all(self, messages: tuple[Message, ...]) -> None:
        by_peer: dict[str, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.to, []).append(message)
        for peer, waiting in by_peer.items():
            for batch in _batches(waiting):
                self._send(peer, batch)


def _batches(messages: list[Message]) -> Iterator[list[Message]]:
    """In order, cut so that each batch fits into one envelope."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        own = sum(len(entry.data) for entry in message.entries)
        if batch and size + own > BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += own
    if batch:
        yield batch
