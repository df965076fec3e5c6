"""The leader went, or a voter came: stand for election without waiting for the time-out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2p.raft_host import all_voters

if TYPE_CHECKING:
    from p2p.peer import Peer

# After the leader was lost: who is at turn asks at once, the next so much later, and everybody
# after a random part of this again; of half as much more each time, for hosts that are busy.
CAMPAIGN_WITHIN_S = 0.04
CAMPAIGN_GROWTH = 1.5
CAMPAIGN_TURN_S = 0.03
# An election takes two messages each way and two syncs: on a busy host longer than this at times,
# seldom longer than twice.
ELECTION_WITHIN_S = 0.1
CAMPAIGNS_MAX = 10
CAMPAIGNS_WITH_MAX = 3
# What a leader sent before its end may arrive this much after its connection broke.
LAST_WORDS_S = 0.03


class Succession:
    """Of one peer; one series of attempts at a time, which ends when there is a leader."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._series = 0
        self._left = 0  # attempts
        self._rank = 0  # among those who may follow
        self._within_s = CAMPAIGN_WITHIN_S

    def after(self, lost: str, term: int) -> None:
        """The leader of `term` leads no more: its connection broke, or a newer term began.

        Others may notice a broken connection a little later than we do, and ignore us until then,
        so ask a few times; at first one after the other, so that no votes are split.
        """
        heirs = [voter for voter in self._peer.raft.status.voters if voter != lost]
        own = self._peer.identity.id
        rank = heirs.index(own) if own in heirs else 0
        self._begin(lost, term, CAMPAIGNS_MAX, rank)

    def stand_with(self, found: str) -> None:
        """Another voter can be reached while nobody leads: perhaps the two complete a majority.

        So it is after a start, and after all were down. Where a leader is heard by the others, they
        ignore us (pre-vote), and its next heartbeat ends it.
        """
        status = self._peer.raft.status
        voters = sorted(all_voters(status))
        own = self._peer.identity.id
        if not self._left and status.leader is None and {found, own} <= set(voters):
            self._begin(None, status.term, CAMPAIGNS_WITH_MAX, voters.index(own))

    def _begin(self, lost: str | None, term: int, attempts: int, rank: int) -> None:
        self._series += 1
        self._left = attempts
        self._rank = rank
        self._within_s = CAMPAIGN_WITHIN_S
        delay_s = rank * CAMPAIGN_TURN_S + self._random_s(0.0, CAMPAIGN_WITHIN_S / 10)
        self._later(delay_s, lost, term)

    def _later(self, delay_s: float, lost: str | None, term: int) -> None:
        series = self._series

        def attempt() -> None:
            if series == self._series:
                self._attempt(lost, term)

        self._peer.parts.call_later(delay_s, attempt)

    def _attempt(self, lost: str | None, term: int) -> None:
        """Ask for votes if the term is still the one of the last attempt. Else somebody stands,
        and votes or its first words are on their way: whoever asked now would depose it, and with
        a shorter log could not even lead instead."""
        peer = self._peer
        if lost is not None:
            self._forget(lost)
        status = peer.raft.status
        if status.leader is not None:
            self._left = 0
        if self._left:
            self._left -= 1
            if status.term == term:
                peer.raft.node.campaign()
                delay_s = self._random_s(0.0, self._within_s)
                self._within_s *= CAMPAIGN_GROWTH
            else:
                delay_s = ELECTION_WITHIN_S * (1 + self._rank / 2) + self._random_s(0.0, 0.01)
            self._later(delay_s, lost, status.term)
        peer.advance()

    def _forget(self, lost: str) -> None:
        """What it sent before its end may have come in since, as if it led still."""
        peer = self._peer
        down_s = peer.leadership.down_since_s(lost)
        if down_s is not None and peer.hearing.leader_s < down_s + LAST_WORDS_S:
            peer.raft.forget_leader(lost)

    def _random_s(self, least_s: float, most_s: float) -> float:
        return self._peer.parts.rng.uniform(least_s, most_s)
