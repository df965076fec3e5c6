"""What a peer finds on its disk when it starts: the log, its snapshot, and whether to trust them.

Every write of the log store may be the last before the power goes, so each point between two of
them must read as the state before or after the step:
- a snapshot is renamed into place when it is whole and durable; older ones go afterwards;
- a segment appears with its first two frames or counts as torn; segments go oldest first;
- an installed snapshot that the log does not lead up to voids the log: its entries were never
  committed. The next frame says so (its `base`); until then a restart concludes it again.
Nothing here needs space: after a full disk a start only cuts and removes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from consensus import wal
from consensus.changes import SnapshotMeta
from consensus.messages import Entry, HardState
from consensus.wal import Position
from consensus.wal_scan import Scan, Verdict, scan
from p2p.errors import P2PError
from p2p.storage.disk import TEMPORARY, Disk, Unreadable
from p2p.storage.snapshot_file import SnapshotCheck, SnapshotDamaged, read_chunks
from p2p.storage.sync_mark import MARK_NAME, SyncMark

SNAPSHOT_PREFIX = "snapshot-"
SNAPSHOT_NEW = "snapshot.new"  # our own, while it is written
SNAPSHOT_PART = "snapshot.part"  # another peer's, while it arrives


class LogDamaged(P2PError):
    """What this peer promised cannot be read any more, so it must not vote under its id again.

    `hard_state`, `base` (the position before the first entry), `entries` and `snapshot` are what
    could be salvaged: sound, but perhaps not all there was.
    """

    def __init__(self, flaw: str, found: Scan, snapshot: SnapshotMeta) -> None:
        super().__init__(
            f"the log in this data directory is damaged ({flaw}), so this peer cannot tell what "
            "it promised: start it with an empty --data-dir, the others have it all"
        )
        self.flaw = flaw
        self.hard_state: HardState = found.hard_state
        self.base: Position = found.base
        self.entries: list[Entry] = found.entries
        self.snapshot = snapshot


@dataclass(slots=True)
class Recovered:
    """segments: (number of the first frame, last index before it), oldest first. active_bytes: of
    the last of them. voids_log: nothing of the log counts, the snapshot is all there is."""

    found: Scan
    segments: list[Position]
    active_bytes: int
    snapshot: SnapshotMeta
    mark: SyncMark
    voids_log: bool


def snapshot_name(index: int) -> str:
    return f"{SNAPSHOT_PREFIX}{index:016d}"


def recover(disk: Disk) -> Recovered:
    """Raises LogDamaged, and then has changed nothing; DiskFailed."""
    disk.sync_names()  # a killed process may have renamed or removed without having synced that
    names = disk.names()
    mark = SyncMark(disk)
    numbers = [number for name in names if (number := wal.segment_number(name)) is not None]
    found = _scan(disk, numbers, mark)
    snapshots = sorted((n for n in names if _snapshot_index(n) is not None), reverse=True)
    snapshot = _newest_sound(disk, snapshots)
    promised = max([mark.snapshot, *(_snapshot_index(name) or 0 for name in snapshots)])
    if found.verdict is Verdict.DAMAGED:
        raise LogDamaged(found.flaw, found, snapshot)
    if found.base[0] > snapshot.index or max(snapshot.index, found.last[0]) < promised:
        raise LogDamaged(f"the snapshot at {max(promised, found.base[0])}", found, snapshot)
    active_bytes = _cut_torn_tail(disk, numbers, found)
    if mark.known and numbers:
        mark.note(found.next_number - 1, snapshot.index)
    for name in names:
        stale = name in (SNAPSHOT_NEW, f".{MARK_NAME}{TEMPORARY}")
        if stale or (name in snapshots and name != snapshot_name(snapshot.index)):
            disk.remove(name)
    voids_log = snapshot.index > 0 and not _leads_to(found, snapshot)
    return Recovered(found, found.starts, active_bytes, snapshot, mark, voids_log)


def set_aside(disk: Disk, prefix: str) -> list[str]:
    """Rename a damaged log's files to `prefix` + name; returns the new names.

    In an order in which a start in between finds it damaged still: never a sound, shorter log.
    """
    for name in (SNAPSHOT_NEW, SNAPSHOT_PART):
        disk.remove(name)
    mine = log_files(disk)
    for name in mine:
        disk.rename(name, prefix + name)
    return [prefix + name for name in mine]


def log_files(disk: Disk) -> list[str]:
    """What a log consists of: snapshots, segments, the mark, in this order."""
    names = disk.names()
    mine = [name for name in names if _snapshot_index(name) is not None]
    mine += [name for name in names if wal.segment_number(name) is not None]
    return mine + [MARK_NAME] * (MARK_NAME in names)


def _snapshot_index(name: str) -> int | None:
    digits = name.removeprefix(SNAPSHOT_PREFIX)
    return int(digits) if name.startswith(SNAPSHOT_PREFIX) and digits.isdecimal() else None


def _scan(disk: Disk, numbers: list[int], mark: SyncMark) -> Scan:
    unreadable: list[str] = []

    def segments() -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            try:
                yield number, disk.read(wal.segment_name(number)) or b""
            except Unreadable as error:
                unreadable.append(str(error))
                return

    found = scan(segments(), mark.number if mark.known else None)
    if unreadable:
        found.verdict, found.flaw = Verdict.DAMAGED, unreadable[0]
    return found


def _newest_sound(disk: Disk, newest_first: list[str]) -> SnapshotMeta:
    for name in newest_first:
        check = SnapshotCheck()
        try:
            for _ in read_chunks(disk, name, check):
                pass
        except (SnapshotDamaged, Unreadable):
            continue
        if check.meta is not None and snapshot_name(check.meta.index) == name:
            return check.meta
    return SnapshotMeta()


def _cut_torn_tail(disk: Disk, numbers: list[int], found: Scan) -> int:
    """Make durable what was read, and only that; returns the length of the last segment.

    After a kill -9 it may be in the page cache only, and we are about to build promises on it.
    After a failed fsync it may be there and marked clean, so what was not known to be synced is
    written once more, in place.
    """
    if not numbers:
        return 0
    name = wal.segment_name(numbers[-1])
    if found.valid_bytes == 0:  # begun, and torn before its first frames were there
        disk.remove(name)
        return found.whole_bytes
    unsure = disk.read(name, found.synced_bytes, found.valid_bytes - found.synced_bytes)
    if unsure:
        disk.overwrite(name, found.synced_bytes, unsure)
    disk.truncate(name, found.valid_bytes)
    return found.valid_bytes


def _leads_to(found: Scan, snapshot: SnapshotMeta) -> bool:
    """Whether the snapshot is of this log's own past, so that what follows in the log counts."""
    place = snapshot.index - found.base[0]
    if place == 0:
        return found.base[1] == snapshot.term
    return place <= len(found.entries) and found.entries[place - 1].term == snapshot.term
