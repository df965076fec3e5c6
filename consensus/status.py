"""What one participant tells about itself; cheap enough to be asked after every message."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from consensus.progress import ProgressState
from consensus.raft import Raft, Role


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """The leader's view of one peer; recent_active: it answered within the election timeout."""

    match: int
    next: int
    state: ProgressState
    recent_active: bool


class Peers(Mapping[str, PeerStatus]):
    """The leader's view of all peers, in the order of their ids, read when it is looked at."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft

    def __getitem__(self, peer: str) -> PeerStatus:
        progress = self._raft.progress[peer]
        return PeerStatus(progress.match, progress.next, progress.state, self._raft.is_active(peer))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._raft.progress))

    def __len__(self) -> int:
        return len(self._raft.progress)


@dataclass(frozen=True, slots=True)
class Status:
    """A picture of this participant, in its own view.

    `progress` is empty unless it leads, and always the newest: it does not stand still as the rest
    does. pending_conf_index: the last membership change, or what may hide one; 0 when applied.
    """

    id: str
    term: int
    role: Role
    leader: str | None
    commit: int
    applied: int
    first_index: int
    last_index: int
    snapshot_index: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]
    voters_outgoing: tuple[str, ...]
    learners_next: tuple[str, ...]
    pending_conf_index: int
    progress: Mapping[str, PeerStatus]
    lead_transferee: str | None
    has_quorum_contact: bool


def picture(raft: Raft) -> Status:
    """As of now."""
    log, conf, pending = raft.log, raft.conf_state, raft.pending_conf_index
    return Status(
        id=raft.id,
        term=raft.term,
        role=raft.role,
        leader=raft.leader,
        commit=log.committed,
        applied=log.applied,
        first_index=log.first_index(),
        last_index=log.last_index(),
        snapshot_index=log.snapshot().index,
        voters=conf.voters,
        learners=conf.learners,
        voters_outgoing=conf.voters_outgoing,
        learners_next=conf.learners_next,
        pending_conf_index=pending if pending > log.applied else 0,
        progress=Peers(raft),
        lead_transferee=raft.lead_transferee,
        has_quorum_contact=raft.has_quorum_contact(),
    )
