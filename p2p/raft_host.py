"""Runs the consensus core: persists, sends and applies what it asks for, in that order."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgpack

from consensus.changes import ConfChange, SnapshotMeta, Step
from consensus.config import RaftConfig
from consensus.errors import Busy as CoreBusy
from consensus.errors import ProposalDropped, TransferRefused
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import RawNode, Role, Status
from consensus.storage import Storage
from p2p.errors import Busy, NoQuorum, P2PError, Usage
from p2p.read_barriers import ReadBarriers
from p2p.storage.log_store import LogStore
from p2p.wire.outbox import Outbox

TICK_S = 0.05
HEARTBEAT_TICKS = 2
LEARNER_HEARTBEAT_TICKS = 6
ELECTION_TICKS = 20
# Who catches up gets no more than this at once, or the others' commits would wait behind it.
APPEND_BYTES_MAX = 256 * 1024
INFLIGHT_BYTES_MAX = 1024 * 1024
# A long log is applied in pages, between which heartbeats are heard and answered.
APPLY_BYTES_MAX = 64 * 1024
# An entry must fit into an envelope, or no follower could ever get it.
COMMAND_BYTES_MAX = 4 * 1024 * 1024

MakeNode = Callable[[RaftConfig, Storage, Random], RawNode]


class RaftHost:
    """`send(peer, messages)` and `on_command(index, command)` are the way out, by pump() alone.

    `on_applied()` comes after every entry, command or not. `on_snapshot(meta)`: another peer's
    state, received before, replaces this one; durable when it returns. `send_snapshot(message)`:
    this MsgSnap asks for a transfer; report_snapshot() ends it.
    """

    def __init__(
        self,
        self_id: str,
        store: LogStore,
        rng: Random,
        send: Callable[[str, list[Message]], None],
        on_command: Callable[[int, Mapping[str, Any]], None],
        call_later: Callable[[float, Callable[[], None]], object],
        make_node: MakeNode = RawNode,
        *,
        on_applied: Callable[[], None],
        on_snapshot: Callable[[SnapshotMeta], None],
        send_snapshot: Callable[[Message], None],
    ) -> None:
        self._store = store
        self._outbox = Outbox(send, call_later)
        self._on_command = on_command
        self._on_applied = on_applied
        self._on_snapshot = on_snapshot
        self._send_snapshot = send_snapshot
        self._pumping = False
        base = store.storage.snapshot()
        self.applied, self.applied_term = base.index, base.term
        self.applied_bytes = 0  # of the entries after the snapshot that this process started from
        self.conf = base.conf  # as of the last applied entry
        self.syncs = 0  # of the log, since the start
        self.has_more = False  # the last pump() ended after a page: come again soon
        config = RaftConfig(
            id=self_id,
            election_ticks=ELECTION_TICKS,
            heartbeat_ticks=HEARTBEAT_TICKS,
            learner_heartbeat_ticks=LEARNER_HEARTBEAT_TICKS,
            max_append_bytes=APPEND_BYTES_MAX,
            max_inflight_bytes=INFLIGHT_BYTES_MAX,
            max_apply_bytes=APPLY_BYTES_MAX,
        )
        self.node = make_node(config, store.storage, rng)
        self._barriers = ReadBarriers(self.node.read_index, ELECTION_TICKS)
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
        self._barriers.tick(count)

    def step(self, message: Message) -> None:
        self.node.step(message)

    def propose(self, command: Mapping[str, Any]) -> int:
        """Append to the log; returns the index. Raises NoQuorum if this peer cannot lead now,
        Busy if too much waits for a majority already."""
        data = msgpack.packb(dict(command))
        if len(data) > COMMAND_BYTES_MAX:
            raise Usage(f"{len(data)} bytes are too many for the log: keep data out of the request")
        try:
            index = self.node.propose(data)
        except CoreBusy as busy:
            raise Busy(f"the cluster is busy: {busy}") from busy
        except ProposalDropped as dropped:
            raise NoQuorum(f"no leader takes proposals now ({dropped}); try again") from dropped
        return index

    def read_barrier(self, done: Callable[[bool], None]) -> None:
        """Calls done(True) once all that was committed up to now is applied here.

        done(False) when that cannot be confirmed: no leader, another leader, no answer within
        about one election timeout. Then ask again. Starts with the next pump().
        """
        self._barriers.ask(done)

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """A transfer that send_snapshot() asked for ended."""
        self.node.report_snapshot(peer, ok)

    def change(self, steps: Sequence[Step], command: Mapping[str, Any]) -> int | None:
        """Propose one change of all these members; None if the core's guards refuse it for now.

        With it comes `command` (if not empty) to whoever applies the change.
        """
        context = msgpack.packb(dict(command)) if command else b""
        try:
            return self.node.propose_conf_change(ConfChange(tuple(steps), context=context))
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
        Of committed entries at most about one page is applied; `has_more` says if some are left.
        """
        if self._pumping:
            return
        self._pumping = True
        self.has_more = False
        try:
            while self.node.has_ready() and not self.has_more:
                ready = self.node.ready()
                self._send_all(ready.messages_now)
                if ready.snapshot is not None:
                    base = ready.snapshot
                    self.applied, self.applied_term = base.index, base.term
                    self.conf = base.conf
                    self._on_snapshot(base)
                if ready.hard_state is not None or ready.entries:
                    self._store.save(ready.hard_state, ready.entries, ready.must_sync)
                    self.syncs += ready.must_sync
                self._send_all(ready.messages_after)
                for entry in ready.committed:
                    self._apply(entry)
                self.node.advance(ready)
                self.has_more = ready.has_more_committed
                self._barriers.confirmed(ready.read_states)
                self._barriers.applied(self.applied)
        finally:
            self._pumping = False
            self._status = self.node.status()
            self._barriers.leader_is(self._status.term, self._status.leader)

    def hurry(self, peer: str) -> None:
        """Somebody waits at `peer` for what is committed here: tell it now."""
        self._outbox.hurry(peer)

    def _apply(self, entry: Entry) -> None:
        self.applied, self.applied_term = entry.index, entry.term
        self.applied_bytes += len(entry.data)
        if entry.type is EntryType.CONF_CHANGE:
            change = ConfChange.decode(entry.data)
            self.conf = self.node.apply_conf_change(change)
            if change.context:
                self._on_command(entry.index, msgpack.unpackb(change.context))
        elif entry.data:
            self._on_command(entry.index, msgpack.unpackb(entry.data))
        self._on_applied()

    def _send_all(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            if message.type is MessageType.SNAP:
                self._send_snapshot(message)
            else:
                self._outbox.add(message)
        self._outbox.flush()


def all_voters(status: Status) -> frozenset[str]:
    """Who votes; during a joint change, in either half."""
    return frozenset(status.voters + status.voters_outgoing)


def is_configured(peer: str, status: Status) -> bool:
    """Whether it votes, in either half, or learns."""
    return peer in status.voters or peer in status.voters_outgoing or peer in status.learners


def all_configured(status: Status) -> frozenset[str]:
    return all_voters(status) | frozenset(status.learners)
