"""recover --force-new-cluster, cut short at every step of the disk."""

import contextlib
import errno

import pytest

from consensus.changes import ConfChange, ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState
from p2p.errors import P2PError
from p2p.replicated.state import State
from p2p.replicated.wire import to_chunks
from p2p.storage.data_dir import Remembered
from p2p.storage.disk import DiskFailed
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.storage.recover import make_sole_voter, salvage
from p2p.storage.rejoin import open_log, set_log_aside
from tests.test_rejoin import flip

WHO = Remembered("a", "a", "127.0.0.1:7701", "c", others=("127.0.0.1:7702",))
CONF = ConfState(("a", "b", "c"))


def damaged() -> MemoryDisk:
    """A snapshot at 12, and a log that is damaged somewhere after it."""
    disk = MemoryDisk()
    store = LogStore(disk, segment_bytes=200)
    entries = [Entry(1, 1, EntryType.CONF_CHANGE, ConfChange().encode())]
    entries += [Entry(index, 1, EntryType.NORMAL, b"x" * 40) for index in range(2, 31)]
    for entry in entries:
        store.save(HardState(1, None, entry.index), [entry], must_sync=True)
    snapshot = store.begin_snapshot(SnapshotMeta(12, 1, CONF))
    for chunk in to_chunks(State(cluster_id="c")):
        snapshot.write(chunk)
    snapshot.finish()
    store.compact(12)
    flip(disk)
    return disk


def starts_as_before(disk: MemoryDisk) -> bool:
    """Whether an ordinary start takes up the old id with a log of three voters."""
    try:
        opened = open_log(disk, WHO, "new", 9.0, may_join=False)
    except P2PError:
        return False
    voters = salvage(disk).configuration.voters if opened.who.id == "a" else ()
    return voters not in ((), ("a",))


@pytest.mark.parametrize("set_aside_before", [False, True])
def test_whatever_it_was_doing_it_can_be_run_again_and_nothing_else_starts(
    set_aside_before: bool,
) -> None:
    whole = damaged()
    if set_aside_before:
        set_log_aside(whole, 3.0)
    found = salvage(whole)
    assert found.flaw
    assert 12 < found.last[0] < 30
    for step in range(1_000):
        disk = whole.copy()
        disk.fail(step, errno.EIO)
        with contextlib.suppress(DiskFailed):
            make_sole_voter(disk, found, "a", at_s=5.0)
        disk = disk.copy()
        assert not starts_as_before(disk.copy()), f"step {step}"
        again = salvage(disk)
        if again.configuration == ConfState(("a",)):
            break
        assert (again.entries, again.flaw) == (found.entries, found.flaw), f"step {step}"
        assert make_sole_voter(disk, again, "a", at_s=5.0) == found.last[0]
        assert salvage(disk).configuration == ConfState(("a",))
    assert step > 10


def test_what_is_recovered_is_not_tidied_away_however_the_clock_stands() -> None:
    disk = damaged()
    for second in (5, 100, 200, 300):
        disk.put(f"damaged-{second}-raft.mark", b"older")
    found = salvage(disk)
    assert make_sole_voter(disk, found, "a", at_s=5.0) == found.last[0]
    assert salvage(disk).snapshot == found.snapshot
