"""The leader's side of the log: proposing, sending, counting (paper §5.3, §5.4.2).

What to send follows from each peer's progress when ready() asks, so that all proposals since the
last ready() travel in one append, and a new commit index rides along.
"""

from consensus import reading
from consensus.errors import Busy, ProposalDropped
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.progress import Progress, ProgressState
from consensus.raft import Raft, Role


def propose(raft: Raft, data: bytes) -> int:
    """Append the host's bytes. Returns their index. Raises ProposalDropped, Busy."""
    check_leads(raft)
    if not raft.quota.admits(len(data)):
        raise Busy(f"{raft.quota.bytes} bytes wait for a majority already; try again in a moment")
    index = raft.append(EntryType.NORMAL, data)
    raft.quota.add(index, len(data))
    return index


def check_leads(raft: Raft) -> None:
    """Raises ProposalDropped where nothing can be proposed."""
    if raft.role is not Role.LEADER:
        raise ProposalDropped(f"{raft.id} is not the leader")
    if raft.lead_transferee is not None:
        raise ProposalDropped(f"leadership is on its way to {raft.lead_transferee}")


# -- sending -----------------------------------------------------------------------------------


class _Sending:
    """What one look at the log tells, for all peers that want something of it.

    Many followers stand at the same place: their appends share one tuple of entries.
    """

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._first, self._last = raft.log.first_index(), raft.log.last_index()
        self._committed = raft.log.committed
        self._batches: dict[int, tuple[tuple[Entry, ...], int]] = {}

    def wants(self, peer: str, progress: Progress) -> bool:
        """Whether something can be sent to `peer` now."""
        if progress.state is ProgressState.SNAPSHOT:
            return False
        if progress.next < self._first and not self._raft.is_active(peer):
            return False  # a snapshot is for those who can take it
        if progress.state is ProgressState.PROBE:
            return not progress.paused
        if progress.window.full:
            return progress.nudge
        if progress.next <= self._last or progress.nudge:
            return True
        return min(self._committed, progress.next - 1) > progress.sent_commit

    def send(self, peer: str, progress: Progress) -> None:
        """The next append, or the snapshot that must come before it."""
        raft, previous = self._raft, progress.next - 1
        if progress.next < self._first:
            snapshot = raft.log.snapshot()
            raft.send(MessageType.SNAP, peer, snapshot=snapshot)
            progress.become_snapshot(snapshot.index)
            return
        entries, size = ((), 0) if progress.window.full else self._batch(progress.next)
        raft.send(
            MessageType.APP,
            peer,
            index=previous,
            log_term=raft.log.term(previous),
            commit=self._committed,
            entries=entries,
        )
        progress.sent(previous + len(entries), len(entries), size, self._committed)

    def _batch(self, first: int) -> tuple[tuple[Entry, ...], int]:
        if first not in self._batches:
            limit = self._raft.config.max_append_bytes
            entries = tuple(self._raft.log.entries(first, self._last + 1, limit))
            self._batches[first] = entries, sum(len(entry.data) for entry in entries)
        return self._batches[first]


def has_work(raft: Raft) -> bool:
    """Whether replicate() would send anything."""
    if raft.stirred:
        sending = _Sending(raft)
        if any(sending.wants(peer, raft.progress[peer]) for peer in raft.stirred):
            return True
        raft.stirred = {}  # looked at; whatever changes for one of them stirs it again
    return False


def replicate(raft: Raft) -> None:
    """Queue every append that the peers' progress allows. Nothing unless it leads."""
    sending = _Sending(raft)
    for peer in raft.stirred:
        progress = raft.progress[peer]
        while sending.wants(peer, progress):
            sending.send(peer, progress)
    raft.stirred = {}


def heartbeat(raft: Raft, ticks: int) -> None:
    """Tell whose turn it is that the leader lives, and what of their log is committed.

    Voters together; learners less often and one after the other, so that many of them are a
    stream and not a burst. A read that waits for its quorum asks the voters again.
    """
    every = raft.config.learner_heartbeat_ticks or raft.config.heartbeat_ticks
    if ticks % raft.config.heartbeat_ticks == 0:
        for peer in raft.voters:
            _send_heartbeat(raft, peer, raft.reads.newest_key())
    for peer in raft.learners[-ticks % every :: every]:
        _send_heartbeat(raft, peer, b"")


def _send_heartbeat(raft: Raft, peer: str, context: bytes) -> None:
    if peer != raft.id:
        commit = min(raft.progress[peer].match, raft.log.committed)
        raft.send(MessageType.HEARTBEAT, peer, commit=commit, context=context)


def report_unreachable(raft: Raft, peer: str) -> None:
    """Optimism lost: appends on their way to `peer` are probably gone."""
    progress = raft.progress.get(peer)
    if progress is not None and peer != raft.id and progress.state is ProgressState.REPLICATE:
        progress.become_probe()
        raft.stir(peer)


def report_snapshot(raft: Raft, peer: str, arrived: bool) -> None:
    """The host's transfer of a snapshot to `peer` ended."""
    progress = raft.progress.get(peer)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        progress.snapshot_ended(arrived)
        raft.stir(peer)


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
    raft.stir(message.sender)
    if message.reject:
        _on_rejection(raft, progress, message)
        return
    news = progress.acknowledged(message.index)
    if progress.state is ProgressState.SNAPSHOT:
        connected = progress.match + 1 >= raft.log.first_index()
    else:
        connected = progress.state is ProgressState.PROBE and progress.match == message.index
    if connected:
        progress.become_replicate()
    if news and message.sender in raft.voters:
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
    raft.stir(message.sender)
    reading.confirm(raft, message.context, message.sender)


def maybe_commit(raft: Raft) -> bool:
    """Commit what a quorum holds, if it is of this term (paper §5.4.2). True if that was news."""
    progress, log = raft.progress, raft.log
    acknowledged = {peer: progress[peer].match for peer in raft.voters}
    index = raft.configuration.voters.committed_index(acknowledged)
    if not log.committed < index <= log.last_index() or log.term(index) != raft.term:
        return False
    log.commit_to(index)
    raft.quota.committed(index)
    raft.stir_all()
    return True


def send_timeout_now_when_ready(raft: Raft) -> None:
    """Last step of a leadership transfer: the chosen peer has everything, so it may stand."""
    target = raft.lead_transferee
    if target is not None and raft.progress[target].match == raft.log.last_index():
        raft.send(MessageType.TIMEOUT_NOW, target)
