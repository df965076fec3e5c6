"""The follower's side of a snapshot transfer: collect the file, check it, hand on MsgSnap."""

from collections.abc import Callable

from consensus.changes import SnapshotMeta
from consensus.messages import Message
from p2p.log_store import LogStore
from p2p.snapshot_file import IncomingSnapshot, SnapshotDamaged
from p2p.snapshot_transfer import Chunk, Receipt


class SnapshotReceiver:
    """One snapshot at a time, the newest leader's; a part of it survives a restart.

    `take(message)` hands MsgSnap to the core and does at once what that asks for, so that the
    complete file is installed (or found not to be needed) before the next chunk comes.
    """

    def __init__(self, store: LogStore, take: Callable[[Message], None]) -> None:
        self._store = store
        self._take = take
        self._incoming: IncomingSnapshot | None = None
        self._wanted: tuple[SnapshotMeta, int] | None = None
        self._term = 0

    def on_chunk(self, chunk: Chunk, term: int, commit: int) -> Receipt | None:
        """What to tell its sender. `term` and `commit` are this peer's; an old leader gets None."""
        meta, total, answer = chunk.meta, chunk.total, not chunk.data
        if chunk.message.term < max(term, self._term):
            return None
        self._term = chunk.message.term
        if meta.index <= commit:
            self._take(chunk.message)  # the core tells the leader how far it is
            return Receipt(meta.index, total, answer, done=True)
        incoming = self._open(meta, total)
        try:
            if chunk.data and chunk.offset == incoming.offset:
                incoming.write(chunk.offset, chunk.data)
            if incoming.offset < total:
                return Receipt(meta.index, incoming.offset, answer)
            self._incoming = self._wanted = None
            incoming.complete()
        except SnapshotDamaged:
            return Receipt(meta.index, 0, answer, damaged=True)
        self._take(chunk.message)
        return Receipt(meta.index, total, answer, done=True)

    def _open(self, meta: SnapshotMeta, total: int) -> IncomingSnapshot:
        if self._incoming is None or self._wanted != (meta, total):
            self._incoming = self._store.receive_snapshot(meta, total)
            self._wanted = (meta, total)
        return self._incoming
