"""`recover --force-new-cluster`: one stopped peer goes on alone after a majority was lost for good.

What the lost majority agreed on and this peer never heard of is gone: that cannot be repaired, only
decided by a human. The log is kept as far as it is sound, all of it counts as committed, and it is
continued in the next term with entries that make this peer the only voter and forget all others,
whose ids can never come back. Cluster id and key stay, so clients and tokens keep working.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgpack

from consensus.changes import ConfChange, ConfChangeType, ConfState, SnapshotMeta
from consensus.confchange import Configuration, InvalidChange, changed
from consensus.messages import Entry, EntryType, HardState
from p2p.errors import P2PError
from p2p.storage.disk import Disk
from p2p.storage.disk_prefixed import Prefixed
from p2p.storage.log_recovery import log_files, snapshot_name
from p2p.storage.log_store import LogDamaged, LogStore
from p2p.storage.rejoin import RECOVERY_NAME, aside_prefix, newest_aside, set_log_aside

COPY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Salvage:
    """What is readable: a snapshot (index 0: none) and the entries after it, all sound.

    `flaw`: why there may have been more; empty if the log is whole. `aside`: the beginning of the
    names of the files it was read from, if a start had set them aside because of that.
    """

    hard_state: HardState
    snapshot: SnapshotMeta
    entries: tuple[Entry, ...]
    flaw: str = ""
    aside: str = ""

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry, or of the snapshot."""
        if self.entries:
            return self.entries[-1].index, self.entries[-1].term
        return self.snapshot.index, self.snapshot.term

    @property
    def configuration(self) -> ConfState:
        """The members when all of it is applied."""
        current = Configuration.from_conf_state(self.snapshot.conf)
        for entry in self.entries:
            if entry.type is EntryType.CONF_CHANGE:
                current = _after(current, ConfChange.decode(entry.data))
        return current.conf_state()


def salvage(disk: Disk) -> Salvage:
    """What there is to keep: the log, or the newest that was set aside, whichever ends later. The
    newer one's beginning may have come from the others before they were lost.

    Changes nothing but what every start does, and puts back what a recovery that was cut short had
    set aside. Raises P2PError when there is nothing to keep.
    """
    _undo(disk)
    found = _read(disk)
    if aside := newest_aside(disk):
        try:
            older = replace(_read(Prefixed(disk, aside)), aside=aside)
        except P2PError:
            if not found.last[0]:
                raise
        else:  # which of two logs is more up to date: Raft, section 5.4.1
            found = max(found, older, key=lambda each: (each.last[1], each.last[0]))
    if not found.last[0]:
        raise P2PError("this data directory has no log that could be recovered")
    return found


def _read(disk: Disk) -> Salvage:
    try:
        store = LogStore(disk)
    except LogDamaged as damaged:
        after = damaged.snapshot.index
        if damaged.base[0] > after:
            raise P2PError(
                f"the snapshot before entry {damaged.base[0]} is damaged, so this peer has no "
                "beginning to build on: recover another peer of the cluster"
            ) from damaged
        follows = _term_at(damaged, after) == damaged.snapshot.term
        kept = tuple(entry for entry in damaged.entries if follows and entry.index > after)
        return Salvage(damaged.hard_state, damaged.snapshot, kept, damaged.flaw)
    hard_state, _ = store.storage.initial_state()
    meta, last = store.snapshot_meta, store.storage.last_index()
    entries = store.storage.entries(meta.index + 1, last + 1, sys.maxsize)
    return Salvage(hard_state, meta, tuple(entries))


def _term_at(damaged: LogDamaged, index: int) -> int | None:
    """Of the entry there: what follows a snapshot counts only if the snapshot is of this log."""
    known = {entry.index: entry.term for entry in damaged.entries}
    return {**known, damaged.base[0]: damaged.base[1]}.get(index)


def make_sole_voter(disk: Disk, found: Salvage, self_id: str, at_s: float) -> int:
    """Continue the log so that `self_id` is the only voter; returns how many entries were kept.

    A damaged log is set aside first, and so is what took the place of one that was. Whenever this
    is cut short, no start takes the peer for what it was, with less of its log, and it can be run
    again. Raises P2PError, DiskFailed.
    """
    is_anew = bool(found.flaw or found.aside)
    if is_anew:
        moved = {"prefix": aside_prefix(disk, at_s), "names": log_files(disk)}
        disk.replace(RECOVERY_NAME, json.dumps(moved).encode())
        aside = set_log_aside(disk, at_s)
        store = LogStore(disk)
        if found.snapshot.index:
            name = (found.aside or aside) + snapshot_name(found.snapshot.index)
            _copy_snapshot(disk, name, found, store)
    else:
        store = LogStore(disk)
    index, last_term = found.last
    term = max(found.hard_state.term, last_term) + 1
    told = {"type": "cluster.recovered", "peer": self_id, "at_s": at_s, "entries": index}
    changes = enumerate(_changes(found.configuration, self_id), index + 1)
    forced = [Entry(at, term, EntryType.CONF_CHANGE, change.encode()) for at, change in changes]
    last = index + len(forced) + 1
    forced.append(Entry(last, term, EntryType.NORMAL, msgpack.packb(told)))
    kept: Sequence[Entry] = found.entries if is_anew else ()
    store.save(HardState(term, None, last), [*kept, *forced], must_sync=True)
    disk.remove(RECOVERY_NAME)
    return index


def _undo(disk: Disk) -> None:
    """Put a damaged log back where it was. May be cut short, and run again, itself."""
    begun = disk.read(RECOVERY_NAME)
    if begun is None:
        return
    moved = json.loads(begun)
    prefix, names = moved["prefix"], moved["names"]
    for name in log_files(disk):
        if name not in names:
            disk.remove(name)
    for name in names:
        if disk.size(prefix + name) is not None:
            disk.rename(prefix + name, name)
    disk.remove(RECOVERY_NAME)


def _changes(state: ConfState, self_id: str) -> list[ConfChange]:
    """One step each, so that none is joint: those that apply them need not agree with anybody."""
    leave = [ConfChange()] if state.voters_outgoing else []
    others = {*state.voters, *state.voters_outgoing, *state.learners, *state.learners_next}
    return [
        *leave,
        ConfChange.one(ConfChangeType.ADD_VOTER, self_id),
        *(ConfChange.one(ConfChangeType.REMOVE, peer) for peer in sorted(others - {self_id})),
    ]


def _after(current: Configuration, change: ConfChange) -> Configuration:
    try:
        return changed(current, change)
    except InvalidChange:
        return current  # as the core does when it applies it


def _copy_snapshot(disk: Disk, name: str, found: Salvage, store: LogStore) -> None:
    """The sound snapshot that was set aside with the damaged log is the base of the new one."""
    size = disk.size(name) or 0
    incoming = store.receive_snapshot(found.snapshot, size)
    for offset in range(incoming.offset, size, COPY_BYTES):
        incoming.write(offset, disk.read(name, offset, COPY_BYTES) or b"")
    incoming.complete()
    store.install(found.snapshot)
