"""RawNode: the interface of the host to the pure core.

The host's loop, for each event (a tick, a message, a proposal), then while has_ready():

    ready = node.ready()
    send(ready.messages_now)
    install(ready.snapshot)                       # durable, and the host's state starts from it
    persist(ready.hard_state, ready.entries)      # one batch; sync when ready.must_sync
    send(ready.messages_after)
    answer(ready.read_states)                     # each once everything up to its index is applied
    apply(ready.committed)                        # apply_conf_change() for each CONF_CHANGE entry
    node.advance(ready)

tick(), step() and propose() may be called between ready() and advance(); their effects are in the
next Ready.
"""

from dataclasses import dataclass
from random import Random

from consensus import election, membership, reading, replication, transfer
from consensus.changes import ConfChange, ConfChangeType, ConfState, SnapshotMeta
from consensus.config import RaftConfig
from consensus.errors import ProposalDropped, RaftError
from consensus.messages import Entry, EntryType, HardState, Message
from consensus.raft import Raft, Role
from consensus.reads import ReadState
from consensus.status import PeerStatus, Status, picture
from consensus.step import step, tick
from consensus.storage import Storage


@dataclass(frozen=True, slots=True)
class SoftState:
    """What need not be durable: who leads (None: unknown) and what this peer is."""

    leader: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class Ready:
    """Work for the host, in the order of the module's text. Messages to itself never appear here.

    messages_now depend on nothing that this Ready persists. messages_after promise something that
    must be durable first: votes, acknowledgements, and requests for votes. (etcd may send vote
    requests before it persisted the term. We do not: a candidate that wins by others' votes,
    crashes and comes back with the old term could otherwise win the same term twice, with a
    different log.)
    Nor does a leader say that a membership change is committed before it has that on disk, too:
    those who lose their vote by it stop standing for election, and if the leader came back not
    knowing, it might need the vote of one that has a longer log than all who may lead.
    committed entries are in order, without gap or repeat, cut to max_apply_bytes; their data may be
    empty (a leader's no-op).
    snapshot: the host has the data already (it gave MsgSnap to step() only then); `entries` follow
    it.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    messages_now: tuple[Message, ...]
    messages_after: tuple[Message, ...]
    committed: tuple[Entry, ...]
    has_more_committed: bool
    must_sync: bool
    snapshot: SnapshotMeta | None = None
    read_states: tuple[ReadState, ...] = ()


def bootstrap(peer: str, context: bytes = b"") -> tuple[HardState, list[Entry]]:
    """A founder's state: entry 1 of term 1 makes it the only voter. Persist, then start RawNode."""
    change = ConfChange.one(ConfChangeType.ADD_VOTER, peer, context)
    entry = Entry(1, 1, EntryType.CONF_CHANGE, change.encode())
    return HardState(term=1, vote=None, commit=1), [entry]


class RawNode:
    """One Raft participant. Not thread-safe; deterministic given `rng` and the calls made."""

    def __init__(self, config: RaftConfig, storage: Storage, rng: Random) -> None:
        """Start from what `storage` holds. Raises ValueError when that contradicts itself."""
        self._raft = Raft(config, storage, rng)
        self._hard_state = self._raft.hard_state()
        self._soft_state = SoftState(None, Role.FOLLOWER)
        self._outstanding: Ready | None = None
        self._to_self: tuple[Message, ...] = ()
        self._unapplied_changes = 0

    def tick(self) -> None:
        """One unit of the host's clock has passed."""
        tick(self._raft)

    def step(self, message: Message) -> None:
        """Take in a message of another peer; what is stale or not for us is ignored.

        Raises SafetyViolation when it contradicts what is committed here, or names a second leader
        of this term.
        """
        if message.sender != self._raft.id:  # only advance() speaks in our own name
            step(self._raft, message)

    def campaign(self) -> None:
        """MsgHup: stand for election (with pre-vote if configured); ignored where not allowed."""
        election.hup(self._raft)

    def forget_leader(self) -> None:
        """The connection to the leader broke: vote for others again before the lease is over.

        The next append or heartbeat of the leader restores it. No effect on the leader itself.
        So a leader's has_quorum_contact does not exclude a newer leader, not even for a moment:
        what must be exclusive needs a quorum round or a fencing number, never the lease.
        """
        if self._raft.role is Role.FOLLOWER:
            self._raft.leader = None

    def propose(self, data: bytes) -> int:
        """Append to the log; returns the index. Raises ProposalDropped with the reason.

        Raises Busy (one of them) while max_uncommitted_bytes wait for a quorum.
        """
        return replication.propose(self._raft, data)

    def propose_conf_change(self, change: ConfChange) -> int:
        """Append a membership change; returns the index. Raises ProposalDropped with the reason."""
        return membership.propose(self._raft, change)

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Put a committed change in force; the host calls it when it applies the entry."""
        self._unapplied_changes = max(0, self._unapplied_changes - 1)
        return membership.apply(self._raft, change)

    def transfer_leader(self, to: str) -> None:
        """Hand leadership to a voter; a follower asks the leader to. Raises TransferRefused."""
        transfer.request(self._raft, to)

    def report_unreachable(self, peer: str) -> None:
        """The last message to `peer` may be lost: stop streaming to it until it answers."""
        replication.report_unreachable(self._raft, peer)

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """The transfer that a MsgSnap to `peer` asked for ended: `peer` has it all, or not."""
        replication.report_snapshot(self._raft, peer, ok)

    def read_index(self, context: bytes) -> None:
        """Ask for a ReadState with this context: a linearizable read, on any peer.

        It may never come (leader lost, message lost): give up after an election timeout and ask
        with another context. Raises ProposalDropped when no leader is known.
        """
        reading.request(self._raft, context)

    def has_ready(self) -> bool:
        """Whether ready() would return work. False while a Ready is not advanced."""
        raft = self._raft
        return self._outstanding is None and (
            bool(raft.log.unstable or raft.messages_now or raft.messages_after)
            or raft.log.pending is not None
            or raft.log.has_committed()
            or self._state_moved()
            or reading.has_work(raft)
            or replication.has_work(raft)
        )

    def ready(self) -> Ready:
        """Everything to do now. Raises RaftError when the previous Ready was not advanced."""
        if self._outstanding is not None:
            raise RaftError("ready() was called again before advance()")
        raft = self._raft
        reading.start(raft)
        replication.replicate(raft)
        hard, soft = raft.hard_state(), self._current_soft_state()
        previous = self._hard_state
        changes = previous.commit < raft.pending_conf_index <= hard.commit
        if changes:
            raft.messages_after = raft.messages_now + raft.messages_after
            raft.messages_now = []
        after = raft.messages_after
        entries = tuple(raft.log.unstable)
        committed = tuple(raft.log.next_committed(raft.config.max_apply_bytes))
        ready = Ready(
            soft_state=soft if soft != self._soft_state else None,
            hard_state=hard if hard != previous else None,
            entries=entries,
            messages_now=tuple(raft.messages_now),
            messages_after=tuple(message for message in after if message.to != raft.id),
            committed=committed,
            has_more_committed=bool(committed) and committed[-1].index < raft.log.committed,
            must_sync=bool(entries)
            or changes
            or (hard.term, hard.vote) != (previous.term, previous.vote),
            snapshot=raft.log.pending,
            read_states=tuple(raft.reads.states),
        )
        self._to_self = (
            *(message for message in after if message.to == raft.id),
            *replication.own_acknowledgement(raft, entries),
        )
        raft.messages_now, raft.messages_after, raft.reads.states = [], [], []
        self._hard_state, self._soft_state = hard, soft
        self._unapplied_changes = sum(e.type is EntryType.CONF_CHANGE for e in committed)
        self._outstanding = ready
        return ready

    def advance(self, ready: Ready) -> None:
        """`ready` is persisted and applied. Own vote and own append count from here.

        Raises RaftError when `ready` is not the last one, its snapshot was not installed, or one of
        its membership changes was not applied.
        """
        if ready is not self._outstanding:
            raise RaftError("advance() takes the Ready that ready() returned last")
        if self._unapplied_changes:
            raise RaftError("advance() before apply_conf_change() of each committed change")
        self._outstanding = None
        log = self._raft.log
        if ready.snapshot is not None:
            log.installed(ready.snapshot)
        if ready.entries:
            log.stable_to(ready.entries[-1].index, ready.entries[-1].term)
        if ready.committed:
            log.applied_to(ready.committed[-1].index)
        messages, self._to_self = self._to_self, ()
        for message in messages:
            step(self._raft, message)
        membership.leave_joint_if_due(self._raft)

    def status(self) -> Status:
        """A picture for humans and planners; cheap, its `progress` reads on demand."""
        return picture(self._raft)

    def _current_soft_state(self) -> SoftState:
        return SoftState(self._raft.leader, self._raft.role)

    def _state_moved(self) -> bool:
        """Whether hard or soft state differ from the last Ready's; asked very often."""
        raft, hard, soft = self._raft, self._hard_state, self._soft_state
        return (
            raft.log.committed != hard.commit
            or raft.term != hard.term
            or raft.vote != hard.vote
            or raft.leader != soft.leader
            or raft.role is not soft.role
        )


__all__ = [
    "PeerStatus",
    "ProposalDropped",
    "RawNode",
    "ReadState",
    "Ready",
    "Role",
    "SoftState",
    "Status",
    "bootstrap",
]
