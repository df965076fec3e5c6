"""Leadership transfer (dissertation §3.10): bring the target up to date, let it stand at once."""

from consensus import election, membership
from consensus.errors import TransferRefused
from consensus.messages import Message, MessageType
from consensus.raft import Raft, Role
from consensus.replication import send_timeout_now_when_ready


def request(raft: Raft, to: str) -> None:
    """Start a transfer here, or ask the leader for one. Raises TransferRefused."""
    if raft.role is Role.LEADER:
        _start(raft, to)
    elif raft.leader is None:
        raise TransferRefused("no leader is known that could hand over")
    else:
        raft.send(MessageType.TRANSFER_LEADER, raft.leader, context=to.encode())


def _start(raft: Raft, to: str) -> None:
    if to == raft.id:
        raft.lead_transferee = None
        membership.leave_joint_if_due(raft)
        return
    if to not in raft.voters:
        raise TransferRefused(f"{to} is not a voter")
    if to == raft.lead_transferee:
        return
    raft.lead_transferee = to
    raft.election_elapsed = 0  # it has one election timeout to take over
    progress = raft.progress[to]
    progress.paused = False
    progress.nudge = progress.match < raft.log.last_index()  # what it lacks may have been lost
    raft.stir(to)
    send_timeout_now_when_ready(raft)


def on_request(raft: Raft, message: Message) -> None:
    """MsgTransferLeader of a member; ignored where it makes no sense."""
    if raft.role is not Role.LEADER or message.sender not in raft.progress:
        return
    to = message.context.decode(errors="replace")
    if to in raft.voters:
        _start(raft, to)


def on_timeout_now(raft: Raft, message: Message) -> None:
    """MsgTimeoutNow of this term's leader: stand at once, past pre-vote and leases."""
    if raft.role is Role.FOLLOWER and raft.leader in (None, message.sender):
        election.hup(raft, transfer=True)
