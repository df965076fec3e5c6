"""Majorities, and pairs of them: who must agree before a vote is won or an index is committed.

A JointConfig with an empty outgoing half is a plain majority, which is all that single-step
membership changes need (Raft dissertation §4.1; joint consensus §4.3 uses both halves).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

INFINITE_INDEX = (1 << 64) - 1  # "commits everything": the empty half of a joint quorum agrees


class VoteResult(StrEnum):
    """Pending: neither enough yes nor enough no."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority_committed_index(voters: Collection[str], acked: Mapping[str, int]) -> int:
    """The greatest index that a majority of `voters` acknowledged; unknown voters count as 0."""
    if not voters:
        return INFINITE_INDEX
    descending = sorted((acked.get(voter, 0) for voter in voters), reverse=True)
    return descending[len(descending) // 2]


def majority_vote_result(voters: Collection[str], votes: Mapping[str, bool]) -> VoteResult:
    """Outcome among `voters` of the votes seen so far; the empty majority wins."""
    needed = len(voters) // 2 + 1
    yes = sum(1 for voter in voters if votes.get(voter) is True)
    missing = sum(1 for voter in voters if voter not in votes)
    if not voters or yes >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if yes + missing >= needed else VoteResult.LOST


@dataclass(frozen=True, slots=True)
class JointConfig:
    """Two voter sets that must both agree; `outgoing` is empty outside a joint change."""

    incoming: frozenset[str] = field(default_factory=frozenset)
    outgoing: frozenset[str] = field(default_factory=frozenset)

    def ids(self) -> frozenset[str]:
        """Everybody who votes in either half."""
        return self.incoming | self.outgoing

    def committed_index(self, acked: Mapping[str, int]) -> int:
        """The greatest index committed in both halves."""
        return min(
            majority_committed_index(self.incoming, acked),
            majority_committed_index(self.outgoing, acked),
        )

    def vote_result(self, votes: Mapping[str, bool]) -> VoteResult:
        """Won only when both halves are won, lost as soon as one is lost."""
        results = {
            majority_vote_result(self.incoming, votes),
            majority_vote_result(self.outgoing, votes),
        }
        if VoteResult.LOST in results:
            return VoteResult.LOST
        return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON

    def has_majority(self, members: Iterable[str]) -> bool:
        """Whether these members alone could win a vote."""
        present = frozenset(members)
        halves = (self.incoming, self.outgoing)
        return all(2 * len(half & present) > len(half) for half in halves if half)
