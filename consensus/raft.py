"""The state of one participant and the transitions between its roles.

Who may act how is in election.py, replication.py, following.py, membership.py and transfer.py;
which of them a message reaches is in step.py.
"""

from enum import StrEnum
from random import Random

from consensus.confchange import Configuration
from consensus.config import RaftConfig
from consensus.log import RaftLog
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.progress import Progress
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
        self.log = RaftLog(storage, hard.commit, config.applied)
        self.term = hard.term
        self.vote = hard.vote
        self.leader: str | None = None
        self.role = Role.FOLLOWER
        self.configuration = Configuration.from_conf_state(conf)
        self.progress: dict[str, Progress] = {}
        self.votes: dict[str, bool] = {}
        self.lead_transferee: str | None = None
        self.pending_conf_index = 0  # leader: no new change before this entry is applied
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
        for peer in sorted(self.configuration.members()):
            self.add_progress(peer)
        if self.id in self.progress:
            self.progress[self.id].match = last
        self.append(EntryType.NORMAL, b"")

    def append(self, type: EntryType, data: bytes) -> int:
        """Leader: append an entry of this term; the next ready() sends it. Returns its index."""
        index = self.log.last_index() + 1
        self.log.append([Entry(index, self.term, type, data)])
        return index

    def add_progress(self, peer: str) -> None:
        """Leader: start to track `peer`, which counts as just heard."""
        self.progress[peer] = Progress(
            self.log.last_index() + 1, self.config.max_inflight, self.ticks
        )

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = None
        self.leader = None
        self.votes = {}
        self.progress = {}
        self.lead_transferee = None
        self.pending_conf_index = 0
        self.election_elapsed = self.heartbeat_elapsed = 0
        self._draw_election_timeout()

    def _draw_election_timeout(self) -> None:
        span = self.config.election_ticks
        self.election_timeout = span + self.rng.randrange(span)

    # -- questions -----------------------------------------------------------------------------

    def mutated(self, name: str) -> bool:
        """Whether the simulator switched off this check."""
        return name in self.config.mutations

    def is_voter(self) -> bool:
        """Whether it may stand for election."""
        return self.id in self.configuration.voters.ids()

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
        return self.configuration.voters.has_majority(filter(self.is_active, self.progress))

    def has_quorum_contact(self) -> bool:
        """Leader: majority active. Others: heard from a leader within the election timeout."""
        if self.role is Role.LEADER:
            return self.has_active_quorum()
        return self.leader is not None and self.election_elapsed < self.config.election_ticks
