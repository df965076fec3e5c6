"""A peer's part in snapshots: takes them, sends them as leader, receives and installs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from consensus.changes import SnapshotMeta
from consensus.messages import Message
from p2p.clock import Clock
from p2p.raft_host import RaftHost
from p2p.replicated.reader import from_chunks
from p2p.replicated.state import State
from p2p.storage.log_store import LogStore
from p2p.storage.snapshot_receiver import SnapshotReceiver, readable
from p2p.storage.snapshot_sender import SnapshotSender
from p2p.storage.snapshot_transfer import Chunk, Receipt
from p2p.storage.snapshots import Captured, SnapshotPolicy, SnapshotTaker

CallLater = Callable[[float, Callable[[], None]], object]


class SnapshotDesk:
    """`send(peer, body)` carries an envelope of kind "snapshot"."""

    def __init__(
        self,
        store: LogStore,
        clock: Clock,
        call_later: CallLater,
        policy: SnapshotPolicy,
        send: Callable[[str, Mapping[str, Any]], bool],
        raft: RaftHost,
    ) -> None:
        self._store = store
        self._raft = raft
        self._send = send
        self._taker = SnapshotTaker(store, clock, call_later, policy, self._needed_after)
        self._sender = SnapshotSender(
            store, clock, call_later, send, raft.report_snapshot, self._taker.force
        )
        self._receiver = SnapshotReceiver(store, self._take)

    def stored(self) -> State:
        """The state as of the newest snapshot. Raises P2PError when another version wrote it."""
        if self._store.snapshot_meta.index == 0:
            return State()
        with readable():
            return from_chunks(self._store.snapshot_chunks())

    def on_message(self, sender: str, body: Mapping[str, Any]) -> None:
        """A chunk from a leader, or a receipt for one of ours. Raises MalformedMessage."""
        if "message" not in body:
            self._sender.on_receipt(sender, Receipt.from_wire(body))
            return
        chunk = Chunk.from_wire(body)
        status = self._raft.node.status()
        if chunk.message.sender == sender and chunk.message.to == status.id:
            receipt = self._receiver.on_chunk(chunk, status.term, status.commit)
            if receipt is not None:
                self._send(sender, receipt.to_wire())

    def on_link_lost(self, peer: str) -> None:
        self._sender.on_link_lost(peer)

    def on_tick(self, state: State) -> None:
        status = self._raft.status
        self._sender.on_tick(status.term if self._raft.is_leader else None)
        self.on_applied(state)  # a damaged snapshot is replaced although nothing is applied

    def offer(self, message: Message) -> None:
        """The core says MsgSnap: its receiver needs the newest snapshot."""
        self._sender.offer(message)

    def on_applied(self, state: State) -> None:
        """`state` is the one after the last applied entry: take a snapshot of it if one is due."""
        raft = self._raft
        if self._taker.is_due(raft.applied, raft.applied_bytes, not self._sender.is_idle):
            meta = SnapshotMeta(raft.applied, raft.applied_term, raft.conf)
            self._taker.begin(Captured(meta, state), raft.applied_bytes)

    def install(self, meta: SnapshotMeta) -> State:
        """The core takes over the snapshot that was received: durably, then the state from it."""
        self._taker.abandon(meta.index, self._raft.applied_bytes)
        self._store.install(meta)
        ready = self._receiver.ready
        return ready[1] if ready is not None and ready[0] == meta else self.stored()

    def _needed_after(self) -> int:
        """The least that a follower has which lives and gets entries; or will have, once it has the
        snapshot that it is getting. A follower itself has to care for nobody.
        """
        first = self._store.storage.first_index()
        followers = self._raft.status.progress.values()
        active = [
            peer.match for peer in followers if peer.recent_active and peer.match + 1 >= first
        ]
        return min([*active, *self._sender.indexes], default=self._raft.applied)

    def _take(self, message: Message) -> None:
        self._raft.step(message)
        self._raft.pump()
