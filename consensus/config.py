"""Parameters of one Raft participant."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Times are in ticks of the host's clock; sizes in bytes of entry data.

    The election timeout is drawn from [election_ticks, 2 * election_ticks) anew for each attempt.
    learner_heartbeat_ticks: how often learners hear from the leader; 0 = as often as voters.
    max_append_bytes: per append. max_inflight, max_inflight_bytes: appends, and bytes in them, that
    one peer has not acknowledged. max_uncommitted_bytes: proposals that wait for a quorum, more are
    refused. max_apply_bytes: committed entries in one Ready, the rest comes in the next.
    Each limit lets a single entry pass, whatever its size.
    Raises ValueError for values that could not work.
    """

    id: str
    election_ticks: int
    heartbeat_ticks: int
    learner_heartbeat_ticks: int = 0
    pre_vote: bool = True
    check_quorum: bool = True
    max_append_bytes: int = 1 << 20
    max_inflight: int = 64
    max_inflight_bytes: int = 16 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_apply_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a Raft participant needs an id")
        if self.heartbeat_ticks < 1 or self.election_ticks <= self.heartbeat_ticks:
            raise ValueError(
                f"election_ticks ({self.election_ticks}) must be greater than "
                f"heartbeat_ticks ({self.heartbeat_ticks}), and both positive"
            )
        if not 0 <= self.learner_heartbeat_ticks < self.election_ticks:
            raise ValueError(
                f"learner_heartbeat_ticks ({self.learner_heartbeat_ticks}) must be less than "
                f"election_ticks ({self.election_ticks}): a silent leader counts as lost"
            )
        limits = ("append_bytes", "inflight", "inflight_bytes", "uncommitted_bytes", "apply_bytes")
        for name in limits:
            if getattr(self, f"max_{name}") < 1:
                raise ValueError(f"max_{name} must be positive")
