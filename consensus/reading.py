"""Linearizable reads without a log entry: ReadIndex (dissertation §6.4), batched per Ready.

The leader notes its commit index and lets a round of heartbeats confirm that nobody else led when
it was asked. A follower asks the leader for an index. All reads between two Readys share a round.
Never by a lease: a clock that stands still would make it wrong, and so would a leadership transfer.
"""

from consensus.errors import ProposalDropped
from consensus.messages import Message, MessageType
from consensus.raft import Raft, Role
from consensus.reads import Asked, ReadState, Round


def request(raft: Raft, context: bytes) -> None:
    """This host asks. Raises ProposalDropped when no leader is known."""
    if raft.leader is None:
        raise ProposalDropped("no leader is known that could confirm a read; ask again")
    raft.reads.asked.append(Asked(None, context))


def has_work(raft: Raft) -> bool:
    """Whether start() or the next Ready has something to do."""
    return bool(raft.reads.states or (raft.reads.asked and _can_start(raft)))


def _can_start(raft: Raft) -> bool:
    # A new leader does not know what is committed before an entry of its own term is.
    return raft.role is not Role.LEADER or raft.has_committed_in_term()


def start(raft: Raft) -> None:
    """Send off what was asked since the last time. Postponed until the leader may answer."""
    reads = raft.reads
    if not reads.asked or not _can_start(raft):
        return
    asked, reads.asked = reads.asked, []
    if raft.role is Role.LEADER:
        _start_round(raft, asked)
    elif raft.leader is not None:  # else the leader was lost meanwhile: whoever asked gives up
        key = reads.new_key()
        reads.forward(key, asked)
        raft.send(MessageType.READ_INDEX, raft.leader, context=key)


def _start_round(raft: Raft, asked: list[Asked]) -> None:
    key = raft.reads.new_key()
    raft.reads.rounds[key] = Round(raft.log.committed, asked)
    for peer in raft.voters:
        if peer != raft.id:
            commit = min(raft.progress[peer].match, raft.log.committed)
            raft.send(MessageType.HEARTBEAT, peer, commit=commit, context=key)
    confirm(raft, key, raft.id)


def confirm(raft: Raft, key: bytes, peer: str) -> None:
    """`peer` answered the heartbeat of that round: with a quorum, all reads up to it are good."""
    reads = raft.reads
    if key not in reads.rounds:
        return
    reads.rounds[key].confirmed_by.add(peer)
    if not raft.configuration.voters.has_majority(reads.rounds[key].confirmed_by):
        return
    for older in list(reads.rounds):
        done = reads.rounds.pop(older)
        for asked in done.asked:
            _answer(raft, asked, done.index)
        if older == key:
            break


def _answer(raft: Raft, asked: Asked, index: int) -> None:
    if asked.sender is None:
        raft.reads.states.append(ReadState(index, asked.context))
    else:
        raft.send(MessageType.READ_INDEX_RESP, asked.sender, index=index, context=asked.context)


def on_request(raft: Raft, message: Message) -> None:
    """MsgReadIndex of a member; only the leader answers."""
    if raft.role is Role.LEADER and message.sender in raft.progress:
        raft.reads.asked.append(Asked(message.sender, message.context))


def on_response(raft: Raft, message: Message) -> None:
    """MsgReadIndexResp of this term's leader."""
    for asked in raft.reads.forwarded.pop(message.context, []):
        raft.reads.states.append(ReadState(message.index, asked.context))
