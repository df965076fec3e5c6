"""The follower's side of the log (paper §5.3)."""

from consensus.confchange import Configuration
from consensus.errors import SafetyViolation
from consensus.messages import Message, MessageType
from consensus.raft import Raft


def on_append(raft: Raft, message: Message) -> None:
    """MsgApp of this term's leader: take the entries, or say where the logs may agree.

    Raises SafetyViolation when the leader lacks what is committed here (against paper §5.4.3).
    """
    log = raft.log
    if message.index < log.committed:
        compacted = message.index < log.first_index() - 1
        if not compacted and not log.matches(message.index, message.log_term):
            raise SafetyViolation(
                f"{message.sender} leads term {message.term} with another entry {message.index} "
                "than the one committed here; a disk lost what its peer had promised"
            )
        raft.send(MessageType.APP_RESP, message.sender, index=log.committed)
    elif log.maybe_append(message.index, message.log_term, message.entries):
        last = message.index + len(message.entries)
        log.commit_to(min(message.commit, last))
        raft.send(MessageType.APP_RESP, message.sender, index=last)
    else:
        hint, hint_term = log.find_conflict_by_term(message.index, message.log_term)
        raft.send(
            MessageType.APP_RESP,
            message.sender,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )


def on_heartbeat(raft: Raft, message: Message) -> None:
    """MsgHeartbeat of this term's leader."""
    if message.commit <= raft.log.last_index():  # beyond: our disk lost entries; commit nothing
        raft.log.commit_to(message.commit)
    raft.send(MessageType.HEARTBEAT_RESP, message.sender, context=message.context)


def on_snapshot(raft: Raft, message: Message) -> None:
    """MsgSnap of this term's leader; the host has the state already.

    A snapshot of what is committed here changes nothing; one that only confirms entries of this log
    commits them. Else log and configuration start over from it; the answer waits for the disk.
    """
    log, meta = raft.log, message.snapshot
    if meta is None:
        return
    if meta.index > log.committed:
        if log.matches(meta.index, meta.term):
            log.commit_to(meta.index)
        else:
            log.restore(meta)
            raft.configure(Configuration.from_conf_state(meta.conf))
    raft.send(MessageType.APP_RESP, message.sender, index=log.committed)
