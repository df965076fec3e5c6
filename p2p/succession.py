"""The connection to the leader broke: stand for election without waiting for the time-out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.node import Role

if TYPE_CHECKING:
    from p2p.peer import Peer

# After the leader's connection broke: wait a random part of this, then stand for election.
CAMPAIGN_WITHIN_S = 0.04
CAMPAIGN_TURN_S = 0.02
CAMPAIGNS_MAX = 10
# What a leader sent before its end may arrive this much after its connection broke.
LAST_WORDS_S = 0.03


def campaign_soon(peer: Peer, lost: str, attempts: int = CAMPAIGNS_MAX) -> None:
    """Others may notice a little later than we do that the leader is gone, and ignore us until
    then, so ask a few times.
    """

    def campaign() -> None:
        down_s = peer.leadership.down_since_s(lost)
        if down_s is not None and peer.hearing.leader_s < down_s + LAST_WORDS_S:
            peer.raft.forget_leader(lost)  # what it sent before may have come in since
        status = peer.raft.status
        if status.leader is None and attempts:
            # A candidate's votes are on their way; later they were split, so ask anew.
            if status.role is not Role.CANDIDATE or attempts % 3 == 1:
                peer.raft.node.campaign()
            campaign_soon(peer, lost, attempts - 1)
        peer.advance()

    delay_s = peer.parts.rng.uniform(0.0, CAMPAIGN_WITHIN_S)
    if attempts == CAMPAIGNS_MAX:  # at first one after the other, so that no votes are split
        heirs = [voter for voter in peer.raft.status.voters if voter != lost]
        rank = heirs.index(peer.identity.id) if peer.identity.id in heirs else 0
        delay_s = rank * CAMPAIGN_TURN_S + delay_s / 10
    peer.parts.call_later(delay_s, campaign)
