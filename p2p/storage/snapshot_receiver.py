"""The follower's side of a snapshot transfer: collect the file, check it, hand on MsgSnap."""

import contextlib
from collections.abc import Callable, Iterator

from consensus.changes import SnapshotMeta
from consensus.messages import Message
from p2p.errors import P2PError
from p2p.replicated.reader import MalformedState, StateReader
from p2p.replicated.state import State
from p2p.storage.log_store import LogStore
from p2p.storage.snapshot_file import IncomingSnapshot, SnapshotDamaged
from p2p.storage.snapshot_transfer import Chunk, Receipt

SYNC_BYTES = 256 * 1024  # a large sync would delay those of the log


class SnapshotReceiver:
    """One snapshot at a time, the newest leader's; a part of it survives a restart.

    The state is read while its file arrives. `take(message)` hands MsgSnap to the core and does at
    once what that asks for, so that the complete snapshot is installed (or found not to be needed)
    before the next chunk comes.
    """

    def __init__(self, store: LogStore, take: Callable[[Message], None]) -> None:
        self._store = store
        self._take = take
        self._incoming: _Arriving | None = None
        self._term = 0
        self.ready: tuple[SnapshotMeta, State] | None = None  # to be installed

    def on_chunk(self, chunk: Chunk, term: int, commit: int) -> Receipt | None:
        """What to tell its sender. `term` and `commit` are this peer's; an old leader gets None.

        Raises P2PError when another version wrote the state.
        """
        meta, total, answer = chunk.meta, chunk.total, not chunk.data
        if chunk.message.term < max(term, self._term):
            return None
        self._term = chunk.message.term
        if meta.index <= commit:
            self._take(chunk.message)  # the core tells the leader how far it is
            return Receipt(meta.index, total, answer, done=True)
        if self._incoming is None or not self._incoming.is_of(meta, total):
            self._incoming = _Arriving(self._store.receive_snapshot(meta, total))
        arriving = self._incoming
        try:
            have = arriving.add(chunk.offset, chunk.data)
            if have < total:
                return Receipt(meta.index, have, answer)
            self._incoming = None
            self.ready = (meta, arriving.complete())
        except SnapshotDamaged:
            self._incoming = None
            return Receipt(meta.index, 0, answer, damaged=True)
        self._take(chunk.message)
        self.ready = None
        return Receipt(meta.index, total, answer, done=True)


class _Arriving:
    """A file, and the state in it as far as it was read."""

    def __init__(self, file: IncomingSnapshot) -> None:
        self._file = file
        self._reader = StateReader()
        self._unsynced = 0

    def is_of(self, meta: SnapshotMeta, total: int) -> bool:
        return (self._file.meta, self._file.total_bytes) == (meta, total)

    def add(self, offset: int, data: bytes) -> int:
        """Returns how many bytes are there. Raises SnapshotDamaged."""
        if data and offset == self._file.offset:
            self._file.write(offset, data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_BYTES:
                self._file.sync_some()
                self._unsynced = 0
            # More than just came: a part from before a restart is caught up with on the way.
            self._read_on()
        return self._file.offset

    def complete(self) -> State:
        """Durable, and this is the state. Raises SnapshotDamaged."""
        self._file.complete()
        while self._read_on():
            pass
        with readable():
            return self._reader.finish()

    def _read_on(self) -> bool:
        chunks = self._file.read_on()
        with readable():
            for chunk in chunks:
                self._reader.feed(chunk)
        return bool(chunks)


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Raises P2PError for a sound state that this version does not understand."""
    try:
        yield
    except MalformedState as error:
        raise P2PError(
            f"this version of p2pnode cannot read the snapshot of the cluster's state ({error}): "
            "start the version that the others run"
        ) from error
