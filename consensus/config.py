"""Parameters of one Raft participant."""

from dataclasses import dataclass, field

# Safety checks that the simulator may switch off, to prove that it notices. Never set elsewhere.
MUTATIONS = frozenset(
    {
        "skip-vote-check",  # grant votes twice in a term, and to candidates with an older log
        "skip-commit-term-check",  # commit entries of earlier terms by counting (paper, figure 8)
        "skip-conf-guard",  # configuration changes while one is pending or before own-term commit
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Times are in ticks of the host's clock; sizes in bytes of entry data.

    The election timeout is drawn from [election_ticks, 2 * election_ticks) anew for each attempt.
    `applied`: the last index that the host had applied before a restart; what follows is handed
    out again. `mutations`: for the simulator only, see MUTATIONS.
    Raises ValueError for values that could not work.
    """

    id: str
    election_ticks: int
    heartbeat_ticks: int
    pre_vote: bool = True
    check_quorum: bool = True
    max_append_bytes: int = 1 << 20
    max_inflight: int = 64
    applied: int = 0
    mutations: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a Raft participant needs an id")
        if self.heartbeat_ticks < 1 or self.election_ticks <= self.heartbeat_ticks:
            raise ValueError(
                f"election_ticks ({self.election_ticks}) must be greater than "
                f"heartbeat_ticks ({self.heartbeat_ticks}), and both positive"
            )
        if self.max_inflight < 1 or self.max_append_bytes < 1 or self.applied < 0:
            raise ValueError(
                "max_inflight and max_append_bytes must be positive, applied not negative"
            )
        if unknown := self.mutations - MUTATIONS:
            raise ValueError(f"unknown mutations: {', '.join(sorted(unknown))}")
