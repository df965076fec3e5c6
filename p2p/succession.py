"""A voter came or the leader went: stand for election without waiting for the time-out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.node import Role
from p2p.raft_host import all_voters

if TYPE_CHECKING:
    from p2p.peer import Peer

# After the leader's connection broke: wait a random part of this, then stand for election.
CAMPAIGN_WITHIN_S = 0.04
CAMPAIGN_TURN_S = 0.02
CAMPAIGNS_MAX = 10
CAMPAIGNS_WITH_MAX = 3
# What a leader sent before its end may arrive this much after its connection broke.
LAST_WORDS_S = 0.03


def succeed(peer: Peer, lost: str) -> None:
    """The connection to the leader broke. Others may notice that a little later than we do, and
    ignore us until then, so ask a few times.
    """
    _campaign_soon(peer, lost, CAMPAIGNS_MAX, in_turn=True)


def stand_with(peer: Peer, found: str) -> None:
    """Another voter can be reached while nobody leads: perhaps the two complete a majority.

    So it is after a start, and after all were down. Where a leader is heard by the others, they
    ignore us (pre-vote), and its next heartbeat ends it.
    """
    status = peer.raft.status
    if status.leader is None and {found, peer.identity.id} <= all_voters(status):
        _campaign_soon(peer, None, CAMPAIGNS_WITH_MAX, in_turn=True)


def _campaign_soon(peer: Peer, lost: str | None, attempts: int, in_turn: bool = False) -> None:
    def campaign() -> None:
        if lost is not None:
            _forget(peer, lost)
        status = peer.raft.status
        if status.leader is None and attempts:
            # A candidate's votes are on their way; later they were split, so ask anew.
            if status.role is not Role.CANDIDATE or attempts % 3 == 1:
                peer.raft.node.campaign()
            _campaign_soon(peer, lost, attempts - 1)
        peer.advance()

    delay_s = peer.parts.rng.uniform(0.0, CAMPAIGN_WITHIN_S)
    if in_turn:  # at first one after the other, so that no votes are split
        heirs = [voter for voter in peer.raft.status.voters if voter != lost]
        rank = heirs.index(peer.identity.id) if peer.identity.id in heirs else 0
        delay_s = rank * CAMPAIGN_TURN_S + delay_s / 10
    peer.parts.call_later(delay_s, campaign)


def _forget(peer: Peer, lost: str) -> None:
    """What it sent before its end may have come in since, as if it led still."""
    down_s = peer.leadership.down_since_s(lost)
    if down_s is not None and peer.hearing.leader_s < down_s + LAST_WORDS_S:
        peer.raft.forget_leader(lost)
