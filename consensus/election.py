"""Standing for election and voting (paper §5.2, §5.4.1; pre-vote: dissertation §9.6)."""

from consensus.messages import CAMPAIGN_TRANSFER, Message, MessageType
from consensus.quorum import VoteResult
from consensus.raft import Raft, Role

_RESPONSE = {
    MessageType.VOTE: MessageType.VOTE_RESP,
    MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESP,
}


def hup(raft: Raft, *, transfer: bool = False) -> None:
    """Stand for election, where allowed; `transfer`: the leader asked for it, skip pre-vote.

    With a committed but unapplied membership change this peer might count the wrong quorum, so it
    waits.
    """
    if raft.role is Role.LEADER or not raft.may_stand() or raft.log.has_unapplied_conf_change():
        return
    if raft.config.pre_vote and not transfer:
        _ask_first(raft)
    else:
        _stand(raft, CAMPAIGN_TRANSFER if transfer else b"")


def _ask_first(raft: Raft) -> None:
    raft.become_pre_candidate()
    raft.votes[raft.id] = True  # promises nothing, so it need not wait for the disk
    if raft.configuration.voters.vote_result(raft.votes) is VoteResult.WON:
        _stand(raft, b"")
    else:
        _request(raft, MessageType.PRE_VOTE, raft.term + 1, b"")


def _stand(raft: Raft, context: bytes) -> None:
    raft.become_candidate()
    raft.send(MessageType.VOTE_RESP, raft.id)  # own vote: counted when it is durable
    _request(raft, MessageType.VOTE, raft.term, context)


def _request(raft: Raft, kind: MessageType, term: int, context: bytes) -> None:
    log = raft.log
    for peer in raft.voters:
        if peer == raft.id:
            continue
        raft.send(
            kind,
            peer,
            term=term,
            index=log.last_index(),
            log_term=log.last_term(),
            context=context,
        )


def on_request(raft: Raft, message: Message) -> None:
    """MsgVote or MsgPreVote, of the current term or (pre-vote) a later one."""
    pre_vote = message.type is MessageType.PRE_VOTE
    free = (
        raft.vote == message.sender
        or (raft.vote is None and raft.leader is None)
        or (pre_vote and message.term > raft.term)
    )
    granted = free and raft.log.is_up_to_date(message.index, message.log_term)
    if not granted:
        raft.send(_RESPONSE[message.type], message.sender, reject=True)
        return
    # A pre-vote is granted for the term that was asked for; ours does not move.
    raft.send(_RESPONSE[message.type], message.sender, term=message.term)
    if not pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.sender


def on_response(raft: Raft, message: Message) -> None:
    """MsgVoteResp or MsgPreVoteResp; counted only in the role and for the term that asked."""
    pre_vote = message.type is MessageType.PRE_VOTE_RESP
    if raft.role is not (Role.PRE_CANDIDATE if pre_vote else Role.CANDIDATE):
        return
    if pre_vote and not message.reject and message.term != raft.term + 1:
        return
    raft.votes.setdefault(message.sender, not message.reject)
    result = raft.configuration.voters.vote_result(raft.votes)
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, None)
    elif result is VoteResult.WON and pre_vote:
        _stand(raft, b"")
    elif result is VoteResult.WON:
        raft.become_leader()
