"""The state of one participant and the transitions between its roles.

Who may act how is in election.py, replication.py, following.py, membership.py, reading.py and
transfer.py; which of them a message reaches is in step.py.
"""

from enum import StrEnum
from random import Random

from consensus.changes import ConfState, SnapshotMeta
from consensus.confchange import Configuration
from consensus.config import RaftConfig
from consensus.inflights import Inflights
from consensus.log import RaftLog
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.progress import Progress
from consensus.quota import Quota
from consensus.reads import Reads
from consensus.storage import Storage


class Role(StrEnum):
    """What a participant is. A learner is a follower that is not among the voters."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


# These promise something that must be durable first. See Ready about vote requests.
_AFTER_PERSISTING = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE,
        MessageType.VOTE_RESP,
        MessageType.PRE_VOTE_RESP,
    }
)


class Raft:
    """Plain state. Times in ticks. `progress`: one item per member (itself too) while it leads."""

    def __init__(self, config: RaftConfig, storage: Storage, rng: Random) -> None:
        hard, conf = storage.initial_state()
        self.id = config.id
        self.config = config
        self.rng = rng
        self.log = RaftLog(storage, hard.commit)
        self.term = hard.term
        self.vote = hard.vote
        if (proven := storage.snapshot().term) > self.term:
            # Installed, then the power went before the term was saved: nothing was promised in it.
            self.term, self.vote = proven, None
        self.leader: str | None = None
        self.role = Role.FOLLOWER
        self.configuration = Configuration()
        self.conf_state = ConfState()
        self.voters: tuple[str, ...] = ()  # sorted; both halves of a joint configuration
        self.learners: tuple[str, ...] = ()
        self.progress: dict[str, Progress] = {}
        self.stirred: dict[str, None] = {}  # peers that something may have to be sent to
        self.votes: dict[str, bool] = {}
        self.lead_transferee: str | None = None
        self.pending_conf_index = 0  # leader: no new change before this entry is applied
        self.quota = Quota(config.max_uncommitted_bytes)
        self.reads = Reads(rng.getrandbits(64))
        self.ticks = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        self.messages_now: list[Message] = []
        self.messages_after: list[Message] = []
        if self.log.last_term() > self.term:
            raise ValueError(
                "the log has an entry of a later term than the hard state: disk damage"
            )
        self.configure(Configuration.from_conf_state(conf))
        self._draw_election_timeout()

    def hard_state(self) -> HardState:
        """What to persist, as of now."""
        return HardState(self.term, self.vote, self.log.committed)

    def send(
        self,
        type: MessageType,
        to: str,
        *,
        term: int | None = None,
        index: int = 0,
        log_term: int = 0,
        commit: int = 0,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        entries: tuple[Entry, ...] = (),
        snapshot: SnapshotMeta | None = None,
    ) -> None:
        """Queue for now or after persisting, of the current term unless `term` is given."""
        queue = self.messages_after if type in _AFTER_PERSISTING else self.messages_now
        term = self.term if term is None else term
        queue.append(
            Message(
                type,
                to,
                self.id,
                term,
                log_term,
                index,
                commit,
                reject,
                reject_hint,
                context,
                entries,
                snapshot,
            )
        )

    # -- transitions ---------------------------------------------------------------------------

    def become_follower(self, term: int, leader: str | None) -> None:
        """Follow `leader` (None: not known yet) in `term`, which is not below the current one."""
        self._reset(term)
        self.role = Role.FOLLOWER
        self.leader = leader

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won, without touching term or vote."""
        self.role = Role.PRE_CANDIDATE
        self.leader = None
        self.votes = {}

    def become_candidate(self) -> None:
        """Open a new term with a vote for itself."""
        self._reset(self.term + 1)
        self.role = Role.CANDIDATE
        self.vote = self.id

    def become_leader(self) -> None:
        """Lead: forget what older leaders knew of the others, and append the no-op of this term."""
        self._reset(self.term)
        self.role = Role.LEADER
        self.leader = self.id
        last = self.log.last_index()
        # Any change up to here may be unapplied; to look for the real one costs more than to wait.
        self.pending_conf_index = last
        self.follow_members(last + 1)
        if self.id in self.progress:
            self.progress[self.id].match = last
        self.append(EntryType.NORMAL, b"")

    def append(self, type: EntryType, data: bytes) -> int:
        """Leader: append an entry of this term; the next ready() sends it. Returns its index."""
        index = self.log.last_index() + 1
        self.log.append([Entry(index, self.term, type, data)])
        self.stir_all()
        return index

    def configure(self, configuration: Configuration) -> None:
        """These members are in force from now on."""
        self.configuration = configuration
        self.conf_state = configuration.conf_state()
        self.voters = tuple(sorted(configuration.voters.ids()))
        self.learners = self.conf_state.learners

    def follow_members(self, next_index: int) -> None:
        """Leader: track exactly the members in force; new ones count as just heard."""
        members = self.configuration.members()
        for peer in self.progress.keys() - members:
            del self.progress[peer]
            self.stirred.pop(peer, None)
        window = self.config.max_inflight, self.config.max_inflight_bytes
        for peer in sorted(members - self.progress.keys()):
            self.progress[peer] = Progress(next_index, Inflights(*window), self.ticks)
        self.stir_all()

    def stir(self, peer: str) -> None:
        """Leader: something about this peer changed, look whether it needs an append."""
        if peer != self.id:
            self.stirred[peer] = None

    def stir_all(self) -> None:
        """Leader: there is news for everybody."""
        if len(self.stirred) < len(self.progress) - 1:
            self.stirred = dict.fromkeys(self.progress)
            self.stirred.pop(self.id, None)

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = None
        self.leader = None
        self.votes = {}
        self.progress = {}
        self.stirred = {}
        self.quota = Quota(self.config.max_uncommitted_bytes)
        self.reads.clear()
        self.lead_transferee = None
        self.pending_conf_index = 0
        self.election_elapsed = self.heartbeat_elapsed = 0
        self._draw_election_timeout()

    def _draw_election_timeout(self) -> None:
        span = self.config.election_ticks
        self.election_timeout = span + self.rng.randrange(span)

    # -- questions -----------------------------------------------------------------------------

    def is_voter(self) -> bool:
        """Whether its vote counts."""
        return self.id in self.voters

    def may_stand(self) -> bool:
        """Whether it may stand for election: not while a snapshot waits to be installed."""
        return self.is_voter() and self.log.pending is None

    def has_committed_in_term(self) -> bool:
        """Leader: whether it knows what is committed (dissertation §6.4, and §4.1's correction)."""
        return self.log.term(self.log.committed) == self.term

    def in_lease(self) -> bool:
        """Whether a leader was heard within the election timeout, so that others need no vote."""
        return (
            self.config.check_quorum
            and self.leader is not None
            and self.election_elapsed < self.config.election_ticks
        )

    def is_active(self, peer: str) -> bool:
        """Leader: whether that member answered within the last election timeout; itself does."""
        silence = self.ticks - self.progress[peer].active_tick
        return peer == self.id or silence < self.config.election_ticks

    def has_active_quorum(self) -> bool:
        """Leader: whether a majority answered within the last election timeout."""
        return self.configuration.voters.has_majority(filter(self.is_active, self.voters))

    def has_quorum_contact(self) -> bool:
        """Leader: majority active. Others: heard from a leader within the election timeout."""
        if self.role is Role.LEADER:
            return self.has_active_quorum()
        return self.leader is not None and self.election_elapsed < self.config.election_ticks
