"""The leader's side of the log: proposing, sending, counting (paper §5.3, §5.4.2).

What to send follows from each peer's progress when ready() asks, so that all proposals since the
last ready() travel in one append, and a new commit index rides along.
"""

from consensus.errors import ProposalDropped
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.progress import Progress, ProgressState
from consensus.raft import Raft, Role


def propose(raft: Raft, kind: EntryType, data: bytes) -> int:
    """Append an entry. Returns its index. Raises ProposalDropped."""
    if raft.role is not Role.LEADER:
        raise ProposalDropped(f"{raft.id} is not the leader")
    if raft.lead_transferee is not None:
        raise ProposalDropped(f"leadership is on its way to {raft.lead_transferee}")
    return raft.append(kind, data)


# -- sending -----------------------------------------------------------------------------------


def has_work(raft: Raft) -> bool:
    """Whether replicate() would send anything."""
    return any(
        _wants_append(raft, progress) for peer, progress in raft.progress.items() if peer != raft.id
    )


def replicate(raft: Raft) -> None:
    """Queue every append that the peers' progress allows. Nothing unless it leads."""
    for peer, progress in raft.progress.items():
        while peer != raft.id and _wants_append(raft, progress):
            _send_append(raft, peer, progress)


def _wants_append(raft: Raft, progress: Progress) -> bool:
    if progress.state is ProgressState.PROBE:
        return not progress.paused
    if progress.inflight_full:
        return progress.nudge
    news = min(raft.log.committed, progress.next - 1) > progress.sent_commit
    return progress.next <= raft.log.last_index() or news or progress.nudge


def _send_append(raft: Raft, peer: str, progress: Progress) -> None:
    log = raft.log
    previous = progress.next - 1
    entries: list[Entry] = []
    if not progress.inflight_full and previous < log.last_index():
        entries = log.entries(progress.next, log.last_index() + 1, raft.config.max_append_bytes)
    raft.send(
        MessageType.APP,
        peer,
        index=previous,
        log_term=log.term(previous),
        commit=log.committed,
        entries=tuple(entries),
    )
    progress.sent(previous + len(entries), len(entries), log.committed)


def heartbeat(raft: Raft) -> None:
    """Tell everybody that the leader lives, and what of their log is committed."""
    for peer, progress in raft.progress.items():
        if peer != raft.id:
            raft.send(MessageType.HEARTBEAT, peer, commit=min(progress.match, raft.log.committed))


def report_unreachable(raft: Raft, peer: str) -> None:
    """Optimism lost: appends on their way to `peer` are probably gone."""
    progress = raft.progress.get(peer)
    if progress is not None and peer != raft.id and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


# -- counting ----------------------------------------------------------------------------------


def own_acknowledgement(raft: Raft, entries: tuple[Entry, ...]) -> tuple[Message, ...]:
    """What the leader tells itself once `entries` are durable; void if it leads no more then."""
    if raft.role is not Role.LEADER or not entries:
        return ()
    index = entries[-1].index
    return (Message(MessageType.APP_RESP, raft.id, raft.id, raft.term, index=index),)


def on_append_response(raft: Raft, message: Message) -> None:
    """MsgAppResp of a member, for the current term."""
    progress = raft.progress.get(message.sender)
    if raft.role is not Role.LEADER or progress is None or message.index > raft.log.last_index():
        return
    progress.active_tick = raft.ticks
    if message.reject:
        _on_rejection(raft, progress, message)
        return
    news = progress.acknowledged(message.index)
    if progress.state is ProgressState.PROBE and (news or progress.match == message.index):
        progress.become_replicate()
    if news:
        maybe_commit(raft)
        send_timeout_now_when_ready(raft)


def _on_rejection(raft: Raft, progress: Progress, message: Message) -> None:
    hint = message.reject_hint
    if message.log_term > 0:
        # Skip our whole run of terms that the follower cannot have at or before its hint.
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    progress.rejected(message.index, hint)


def on_heartbeat_response(raft: Raft, message: Message) -> None:
    """MsgHeartbeatResp: the peer lives; whatever it lacks may have been lost on the way."""
    progress = raft.progress.get(message.sender)
    if raft.role is not Role.LEADER or progress is None:
        return
    progress.active_tick = raft.ticks
    progress.paused = False
    progress.nudge = progress.match < raft.log.last_index()


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum holds, if it is of this term (paper §5.4.2). True if that was news."""
    index = raft.configuration.voters.committed_index(
        {peer: progress.match for peer, progress in raft.progress.items()}
    )
    log = raft.log
    if not log.committed < index <= log.last_index():
        return False
    if log.term(index) != raft.term and not raft.mutated("skip-commit-term-check"):
        return False
    log.commit_to(index)
    return True


def send_timeout_now_when_ready(raft: Raft) -> None:
    """Last step of a leadership transfer: the chosen peer has everything, so it may stand."""
    target = raft.lead_transferee
    if target is not None and raft.progress[target].match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, target)
