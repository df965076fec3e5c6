"""The log store: what was acknowledged is found again, compacted, snapshotted, installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState
from consensus.node import bootstrap
from p2p.storage.disk import Disk, DiskFailed, Folder
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogDamaged, LogStore, set_aside
from p2p.storage.snapshot_file import SnapshotDamaged
from p2p.storage.sync_mark import MARK_NAME, SLOT_BYTES

SEGMENT_BYTES = 300
CONF = ConfState(("a", "b"), ("c",))


class PowerGone(BaseException):
    """The process ends here."""


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made: Disk = MemoryDisk() if request.param == "memory" else Folder(tmp_path / "peer")
    yield made
    made.close()


def entry(index: int, data: bytes = b"x" * 20, term: int = 1) -> Entry:
    return Entry(index, term, EntryType.NORMAL, data)


def opened(disk: Disk) -> LogStore:
    return LogStore(disk, SEGMENT_BYTES)


def filled(disk: Disk, last: int = 30) -> LogStore:
    """Entries 1 to `last` in several segments, one frame each."""
    store = opened(disk)
    store.save(*bootstrap("a"), must_sync=True)
    for index in range(2, last + 1):
        store.save(HardState(1, None, index - 1), [entry(index)], must_sync=True)
    return store


def snapshot(store: LogStore, index: int, *chunks: bytes, term: int = 1) -> SnapshotMeta:
    meta = SnapshotMeta(index, term, CONF)
    file = store.begin_snapshot(meta)
    for chunk in chunks:
        file.write(chunk)
        file.sync_some()
    file.finish()
    return meta


def sent(store: LogStore) -> bytes:
    """The snapshot's file as another peer gets it."""
    size = store.snapshot_bytes
    return b"".join(store.read_snapshot(place, 100) for place in range(0, size, 100))


def used(disk: Disk, name: str) -> int:
    """Bytes before the space that is only reserved."""
    return len((disk.read(name) or b"").rstrip(b"\0"))


def segments(disk: Disk) -> list[str]:
    return [name for name in disk.names() if name.startswith("wal-")]


# -- the log -------------------------------------------------------------------------------------


def test_a_log_is_found_again(disk: Disk) -> None:
    store = LogStore(disk)
    assert store.is_new
    store.save(*bootstrap("a"), must_sync=True)
    store.save(HardState(1, None, 1), [entry(2), entry(3)], must_sync=True)
    store.save(None, [entry(3, b"other")], must_sync=True)
    again = LogStore(disk)
    assert not again.is_new
    assert again.storage.last_index() == 3
    assert again.storage.entries(3, 4, 100)[0].data == b"other"
    assert again.storage.initial_state()[0].term == 1


def test_segments_are_rolled_and_read_as_one(disk: Disk) -> None:
    store = filled(disk)
    assert len(segments(disk)) > 5
    again = opened(disk)
    assert again.storage.entries(1, 31, 10**6) == store.storage.entries(1, 31, 10**6)
    assert again.storage.initial_state()[0] == HardState(1, None, 29)


def test_a_commit_index_waits_for_the_next_frame(disk: Disk) -> None:
    store = filled(disk, 3)
    before = [disk.read(name) for name in segments(disk)]
    store.save(HardState(1, None, 3), [], must_sync=False)
    assert [disk.read(name) for name in segments(disk)] == before
    assert opened(disk).storage.hard_state.commit == 2
    store.save(None, [entry(4)], must_sync=True)
    assert opened(disk).storage.hard_state.commit == 3


def test_a_write_that_failed_is_not_in_the_log() -> None:
    disk = MemoryDisk()
    store = filled(disk, 2)
    disk.capacity_bytes = sum(map(len, disk.files.values()))
    with pytest.raises(DiskFailed, match="no space left"):
        store.save(None, [entry(3, b"x" * 2000)], must_sync=True)
    assert store.storage.last_index() == 2, "or it would be acknowledged"
    disk.restart()
    assert opened(disk).storage.last_index() == 2, "and a start on the full disk needs no space"


# -- evidence ------------------------------------------------------------------------------------


def test_a_clean_log_starts_without_its_mark_and_has_one_again(disk: Disk) -> None:
    filled(disk)
    disk.remove(MARK_NAME)
    store = opened(disk)
    assert store.storage.last_index() == 30
    store.save(None, [entry(31)], must_sync=True)
    assert disk.size(MARK_NAME) == 2 * SLOT_BYTES


def test_a_short_file_is_torn_above_the_mark_and_damage_below_or_without_one(disk: Disk) -> None:
    store = filled(disk, 3)
    (name,) = segments(disk)
    before = disk.read(MARK_NAME) or b""
    store.save(None, [entry(4)], must_sync=True)
    disk.truncate(name, used(disk, name) - 1)
    for mark in (disk.read(MARK_NAME) or b"", b"", bytes(1024)):
        disk.replace(MARK_NAME, mark)
        with pytest.raises(LogDamaged, match=r"damaged \(frame 5 at byte .*empty --data-dir"):
            opened(disk)
    disk.replace(MARK_NAME, before)
    assert opened(disk).storage.last_index() == 3


def test_lost_frames_and_files_are_noticed(disk: Disk) -> None:
    filled(disk)
    names = segments(disk)
    for lost in (names[-1], names[0], names[3]):
        data = disk.read(lost) or b""
        disk.remove(lost)
        with pytest.raises(LogDamaged):
            opened(disk)
        disk.append(lost, data)
    for name in names:
        disk.remove(name)
    with pytest.raises(LogDamaged, match="frame 1 is missing"):
        opened(disk)


def test_what_is_sound_can_be_salvaged() -> None:
    disk = MemoryDisk()
    filled(disk)
    last = segments(disk)[-1]
    disk.flip_bit(last, 8 * (used(disk, last) - 1))
    with pytest.raises(LogDamaged) as damage:
        opened(disk)
    assert [e.index for e in damage.value.entries] == list(range(1, 30))
    assert damage.value.hard_state == HardState(1, None, 28)
    assert damage.value.snapshot.index == 0


def test_damaged_files_are_set_aside_in_an_order_that_never_reads_as_sound() -> None:
    disk = MemoryDisk()
    store = filled(disk)
    snapshot(store, 20, b"state")
    store.compact(15)
    disk.flip_bit(segments(disk)[-1], 77)
    steps = len(disk.names())
    for ends_at in range(3 * steps):
        copy = disk.copy()
        ends_in(copy, ends_at)
        try:
            set_aside(copy, "damaged-a-")
        except PowerGone:
            copy.before_step = lambda what, name: None
            try:
                assert opened(copy).is_new
                assert not [n for n in copy.names() if n.startswith(("wal-", "snapshot-"))]
            except LogDamaged:
                set_aside(copy, "damaged-a-")
        copy.before_step = lambda what, name: None
        assert opened(copy).is_new
        assert [n for n in copy.names() if n.startswith("damaged-a-wal-")] != []


def ends_in(disk: MemoryDisk, steps: int) -> None:
    """The process ends before that many more steps."""
    at = disk.steps + steps

    def end(what: str, name: str) -> None:
        if disk.steps >= at:
            raise PowerGone

    disk.before_step = end


# -- snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_is_found_again_and_lets_segments_go(disk: Disk) -> None:
    store = filled(disk)
    meta = snapshot(store, 20, b"one", b"", b"x" * 70_000)
    count = len(segments(disk))
    store.compact(25)  # never beyond the snapshot
    assert store.storage.first_index() == 21
    assert len(segments(disk)) < count
    for found in (store, opened(disk)):
        assert found.snapshot_meta == meta
        assert list(found.snapshot_chunks()) == [b"one", b"", b"x" * 70_000]
        assert found.storage.last_index() == 30
        assert found.storage.entries(21, 31, 10**6) == [entry(n) for n in range(21, 31)]
        assert found.storage.term(20) == 1
    assert found.storage.initial_state() == (HardState(1, None, 29), CONF)


def test_exactly_one_snapshot_is_kept(disk: Disk) -> None:
    store = filled(disk)
    for index in (10, 20, 25):
        snapshot(store, index, b"%d" % index)
        store.compact(index)
    assert [n for n in disk.names() if n.startswith("snapshot")] == ["snapshot-0000000000000025"]
    assert list(opened(disk).snapshot_chunks()) == [b"25"]


def test_a_snapshot_that_was_not_finished_is_none(disk: Disk) -> None:
    store = filled(disk)
    file = store.begin_snapshot(SnapshotMeta(10, 1, CONF))
    file.write(b"x")
    file.sync_some()
    again = opened(disk)
    assert again.snapshot_meta.index == 0
    assert "snapshot.new" not in disk.names()
    again.begin_snapshot(SnapshotMeta(10, 1, CONF)).discard()
    assert "snapshot.new" not in disk.names()


def test_a_damaged_snapshot_is_passed_over_only_while_the_log_has_it_all() -> None:
    disk = MemoryDisk()
    store = filled(disk)
    snapshot(store, 20, b"state")
    whole = disk.copy()
    disk.flip_bit("snapshot-0000000000000020", 300)
    assert opened(disk).snapshot_meta.index == 0
    assert opened(disk).storage.first_index() == 1
    store = opened(whole)
    store.compact(20)
    for break_it in (
        lambda: whole.flip_bit("snapshot-0000000000000020", 300),
        lambda: whole.remove("snapshot-0000000000000020"),
    ):
        break_it()
        with pytest.raises(LogDamaged, match="snapshot at 20"):
            opened(whole)


def test_an_installed_snapshot_that_rots_before_a_frame_names_it_is_noticed() -> None:
    """It may have been acknowledged: the older log alone is less than what was promised."""
    sender = filled(MemoryDisk())
    meta = snapshot(sender, 28, b"state")
    disk = MemoryDisk()
    store = filled(disk, 5)
    incoming = store.receive_snapshot(meta, sender.snapshot_bytes)
    incoming.write(0, sent(sender))
    incoming.complete()
    store.install(meta)
    lost = disk.copy()
    disk.flip_bit("snapshot-0000000000000028", 200)
    lost.remove("snapshot-0000000000000028")
    for broken in (disk, lost):
        with pytest.raises(LogDamaged, match="snapshot at 28"):
            opened(broken)


def test_a_snapshot_arrives_in_pieces_also_across_restarts(disk: Disk, tmp_path: Path) -> None:
    sender = filled(MemoryDisk())
    chunks = [bytes([n]) * 90 for n in range(40)]
    meta = snapshot(sender, 28, *chunks)
    data = sent(sender)
    store = opened(disk)
    store.save(HardState(1, "b", 0), [entry(1), entry(2)], must_sync=True)
    incoming = store.receive_snapshot(meta, len(data))
    while incoming.offset < len(data):
        place = incoming.offset
        incoming.write(place, data[place : place + 333])
        incoming.sync_some()
        if place % 2:
            store = opened(disk)
            incoming = store.receive_snapshot(meta, len(data))
            assert place < incoming.offset + 333
    incoming.complete()
    store.install(meta)
    for found in (store, opened(disk)):
        assert list(found.snapshot_chunks()) == chunks
        assert (found.storage.first_index(), found.storage.last_index()) == (29, 28)
        assert found.storage.term(28) == 1
    found.save(HardState(2, None, 28), [entry(29, term=2)], must_sync=True)
    again = opened(disk)
    assert again.storage.entries(29, 30, 100) == [entry(29, term=2)]
    assert again.storage.initial_state() == (HardState(2, None, 28), CONF)


def test_what_does_not_belong_to_the_snapshot_is_refused_and_fetched_again(disk: Disk) -> None:
    sender = filled(MemoryDisk())
    meta = snapshot(sender, 28, b"x" * 500)
    data = sent(sender)
    incoming = opened(disk).receive_snapshot(meta, len(data))
    incoming.write(0, data[:100])
    for offset, wrong in ((0, data), (100, b"\0" * len(data[100:])), (100, data[100:] + b"x")):
        with pytest.raises(SnapshotDamaged):
            incoming.write(offset, wrong)
        if incoming.offset == 0:
            incoming.write(0, data[:100])
    with pytest.raises(SnapshotDamaged, match="ends too early"):
        incoming.complete()
    assert incoming.offset == 0
    other = opened(disk).receive_snapshot(SnapshotMeta(28, 2, CONF), len(data))
    with pytest.raises(SnapshotDamaged, match="this is a snapshot of"):
        other.write(0, data)


def test_another_snapshots_beginning_is_dropped(disk: Disk) -> None:
    sender = filled(MemoryDisk())
    meta = snapshot(sender, 20, b"x" * 500)
    data = sent(sender)
    opened(disk).receive_snapshot(meta, len(data)).write(0, data[:200])
    assert opened(disk).receive_snapshot(SnapshotMeta(21, 1, CONF), len(data)).offset == 0


def test_a_log_that_does_not_lead_up_to_the_installed_snapshot_is_void(disk: Disk) -> None:
    """Also when the process ends right after the renaming, before a frame has said so."""
    sender = filled(MemoryDisk())
    meta = snapshot(sender, 20, b"state", term=3)
    data = sent(sender)
    store = opened(disk)
    store.save(HardState(1, "a", 1), [entry(index) for index in range(1, 26)], must_sync=True)
    incoming = store.receive_snapshot(meta, len(data))
    incoming.write(0, data)
    incoming.complete()
    store.install(meta)
    with pytest.raises(ValueError, match="is there already"):
        store.install(meta)
    again = opened(disk)
    assert (again.storage.first_index(), again.storage.last_index()) == (21, 20)
    assert again.storage.initial_state() == (HardState(3, None, 20), CONF)
