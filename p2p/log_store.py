"""The durable Raft log: the write-ahead log on disk, and the whole log in memory beside it."""

from collections.abc import Sequence

from consensus import wal
from consensus.messages import Entry, HardState
from consensus.storage import MemoryStorage
from p2p.disk import Disk
from p2p.errors import P2PError

LOG_NAME = "raft.log"


class LogStore:
    """Raises P2PError when the log on disk is damaged in a place that was once durable."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        data = disk.read(LOG_NAME) or b""
        found = wal.scan(data)
        if found.verdict is wal.Verdict.DAMAGED:
            raise P2PError(
                f"the log {LOG_NAME} is damaged at byte {found.valid_length}, so this peer cannot "
                "tell what it promised: start it with an empty --data-dir, the others have it all"
            )
        if data:
            # Cuts off a torn tail, which was never acknowledged. And it syncs: after a kill -9 what
            # was read may be in the page cache only, and we are about to build promises on it.
            disk.truncate(LOG_NAME, found.valid_length)
        self._unsaved: HardState | None = None
        self._length = found.valid_length
        self.storage = MemoryStorage(found.hard_state, found.entries)

    @property
    def is_new(self) -> bool:
        return self._length == 0

    def save(self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool) -> None:
        """Make both durable as one step, before anything that depends on them is said.

        A commit index alone promises nothing (not `must_sync`): it waits for the next frame, so
        that all frames are synced ones, and a damaged one before the end is damage indeed.
        """
        if hard_state is not None:
            self.storage.set_hard_state(hard_state)
            self._unsaved = hard_state
        if not must_sync:
            return
        header = wal.HEADER if self.is_new else b""
        frame = header + wal.encode(self._unsaved, entries, self._length + len(header))
        self._disk.append(LOG_NAME, frame)
        self._unsaved = None
        self._length += len(frame)
        self.storage.append(entries)
