"""Time and messages: the rules of terms (paper §5.1), then to whoever handles the type."""

from consensus import election, following, membership, reading, replication, transfer
from consensus.errors import SafetyViolation
from consensus.messages import CAMPAIGN_TRANSFER, Message, MessageType
from consensus.raft import Raft, Role

_VOTE_REQUESTS = (MessageType.VOTE, MessageType.PRE_VOTE)
_FROM_LEADER = (MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP)
_HANDLERS = {
    MessageType.APP: following.on_append,
    MessageType.APP_RESP: replication.on_append_response,
    MessageType.VOTE: election.on_request,
    MessageType.VOTE_RESP: election.on_response,
    MessageType.PRE_VOTE: election.on_request,
    MessageType.PRE_VOTE_RESP: election.on_response,
    MessageType.HEARTBEAT: following.on_heartbeat,
    MessageType.HEARTBEAT_RESP: replication.on_heartbeat_response,
    MessageType.TRANSFER_LEADER: transfer.on_request,
    MessageType.TIMEOUT_NOW: transfer.on_timeout_now,
    MessageType.SNAP: following.on_snapshot,
    MessageType.READ_INDEX: reading.on_request,
    MessageType.READ_INDEX_RESP: reading.on_response,
}


def tick(raft: Raft) -> None:
    """One unit of time."""
    raft.ticks += 1
    raft.election_elapsed += 1
    if raft.role is Role.LEADER:
        _tick_leader(raft)
    elif raft.election_elapsed >= raft.election_timeout and raft.may_stand():
        raft.election_elapsed = 0
        election.hup(raft)


def _tick_leader(raft: Raft) -> None:
    if raft.config.check_quorum and not raft.has_active_quorum():
        # Nobody would hear it: stop, so that clients and trainers learn (dissertation §6.2).
        raft.become_follower(raft.term, None)
        return
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        raft.lead_transferee = None  # the target did not take over in time
        membership.leave_joint_if_due(raft)
    raft.heartbeat_elapsed += 1
    replication.heartbeat(raft, raft.heartbeat_elapsed)


def step(raft: Raft, message: Message) -> None:
    """Take in one message. Raises SafetyViolation."""
    if message.to != raft.id:
        return
    if message.term < raft.term:
        _answer_the_past(raft, message)
        return
    if message.term > raft.term and not _enter_term(raft, message):
        return
    if message.type in _FROM_LEADER:
        _accept_leader(raft, message)
    _HANDLERS[message.type](raft, message)


def _answer_the_past(raft: Raft, message: Message) -> None:
    if message.type in _FROM_LEADER and (raft.config.check_quorum or raft.config.pre_vote):
        # Where vote requests are ignored under a lease, an old leader must learn the term this way.
        raft.send(MessageType.APP_RESP, message.sender)
    elif message.type is MessageType.PRE_VOTE:
        raft.send(MessageType.PRE_VOTE_RESP, message.sender, reject=True)


def _enter_term(raft: Raft, message: Message) -> bool:
    """A later term than ours. Returns False when the message is to be ignored."""
    if message.type in _VOTE_REQUESTS:
        forced = message.context == CAMPAIGN_TRANSFER
        deposed = message.sender == raft.leader  # it leads no more, or it would not ask
        if raft.in_lease() and not forced and not deposed:
            return False  # dissertation §4.2.3: the leader lives, whatever the asker believes
    asks = message.type is MessageType.PRE_VOTE
    grants = message.type is MessageType.PRE_VOTE_RESP and not message.reject
    if not asks and not grants:
        leader = message.sender if message.type in _FROM_LEADER else None
        raft.become_follower(message.term, leader)
    return True


def _accept_leader(raft: Raft, message: Message) -> None:
    """The sender leads our term: follow it."""
    if raft.role is Role.LEADER or raft.leader not in (None, message.sender):
        raise SafetyViolation(
            f"{message.sender} and {raft.leader} both lead term {raft.term}; "
            "two peers share an id or a disk lost its vote"
        )
    if raft.role is Role.FOLLOWER:
        raft.election_elapsed = 0
        raft.leader = message.sender
    else:
        raft.become_follower(raft.term, message.sender)
