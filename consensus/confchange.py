"""Configurations, and the step between two: |old Δ new| ≤ 1 voter (dissertation §4.1)."""

from dataclasses import dataclass, field

from consensus.messages import ConfChange, ConfChangeType, ConfState
from consensus.quorum import JointConfig


class InvalidChange(ValueError):
    """This change cannot follow this configuration; the text says why."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members in force. voters and learners never overlap."""

    voters: JointConfig = field(default_factory=JointConfig)
    learners: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def from_conf_state(cls, state: ConfState) -> "Configuration":
        """Inverse of conf_state."""
        return cls(JointConfig(frozenset(state.voters)), frozenset(state.learners))

    def conf_state(self) -> ConfState:
        """As plain sorted tuples."""
        return ConfState(tuple(sorted(self.voters.incoming)), tuple(sorted(self.learners)))

    def members(self) -> frozenset[str]:
        """Everybody who gets the log."""
        return self.voters.ids() | self.learners


def simple_change(current: Configuration, change: ConfChange) -> Configuration:
    """The configuration after one change. A change that is already in force changes nothing.

    Raises InvalidChange when no voter would be left.
    """
    voters, learners = current.voters.incoming, current.learners
    peer = frozenset({change.peer})
    match change.type:
        case ConfChangeType.ADD_VOTER:
            voters, learners = voters | peer, learners - peer
        case ConfChangeType.ADD_LEARNER:
            voters, learners = voters - peer, learners | peer
        case ConfChangeType.REMOVE:
            voters, learners = voters - peer, learners - peer
    if not voters:
        raise InvalidChange(f"{change.peer} is the last voter; add another voter before it goes")
    return Configuration(JointConfig(voters), learners)
