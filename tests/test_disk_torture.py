"""The log store under every failure of its disk: exactly what was durable, or a refusal.

A story with all that the store can do is run again and again; each time something else goes wrong
at one step of the disk. After the restart the store holds what was acknowledged, or that and the
whole of the operation that was under way, or it refuses with a sentence. Never less, never
anything that was not written.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState
from p2p.storage.disk import DiskFailed, Folder
from p2p.storage.disk_memory import SECTOR_BYTES, MemoryDisk
from p2p.storage.log_store import LogDamaged, LogStore
from p2p.storage.sync_mark import MARK_NAME

SEGMENT_BYTES = 250
CONF = ConfState(("a", "b", "c"))


class PowerGone(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class View:
    """What counts after a restart. Entries that the snapshot covers may be there or not."""

    term: int
    vote: str | None
    snapshot: SnapshotMeta
    state: bytes
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, store: LogStore) -> "View":
        hard_state, meta = store.storage.hard_state, store.snapshot_meta
        assert meta.index <= hard_state.commit <= store.storage.last_index()
        first, last = meta.index + 1, store.storage.last_index()
        entries = store.storage.entries(first, last + 1, 1 << 30) if last >= first else []
        state = b"".join(store.snapshot_chunks())
        return cls(hard_state.term, hard_state.vote, meta, state, tuple(entries))


def entries(first: int, last: int, term: int, data: bytes = b"data") -> list[Entry]:
    return [Entry(n, term, EntryType.NORMAL, data + b"%d" % n) for n in range(first, last + 1)]


def state_at(index: int) -> list[bytes]:
    """What a snapshot holds, in chunks; longer than a sector."""
    return [b"state of %d " % index * 20, b"!" * 600]


def sent_snapshot(index: int, term: int) -> tuple[SnapshotMeta, bytes]:
    """The file of another peer's snapshot."""
    store = LogStore(MemoryDisk())
    store.save(HardState(term, None, 0), entries(1, index, term), must_sync=True)
    meta = SnapshotMeta(index, term, CONF)
    take(store, meta)
    return meta, store.read_snapshot(0, 1 << 20)


def take(store: LogStore, meta: SnapshotMeta) -> None:
    file = store.begin_snapshot(meta)
    for chunk in state_at(meta.index):
        file.write(chunk)
        file.sync_some()
    file.finish()


SENT = sent_snapshot(40, 4)


def receive(store: LogStore) -> None:
    meta, data = SENT
    incoming = store.receive_snapshot(meta, len(data))
    while incoming.offset < len(data):
        place = incoming.offset
        incoming.write(place, data[place : place + 300])
        if place < 400:
            incoming.sync_some()
    incoming.complete()


def install(store: LogStore) -> None:
    """As the peer does it: the term of the message that offered it comes with the next save."""
    store.install(SENT[0])
    store.save(HardState(4, None, 40), [], True)


def story() -> Iterator[Callable[[LogStore], None]]:
    """One operation after the other, as a follower's life would bring them."""
    yield lambda s: s.save(HardState(1, "a", 0), [], True)
    yield lambda s: s.save(None, entries(1, 3, 1), True)
    yield lambda s: s.save(HardState(1, "a", 2), [], False)
    yield lambda s: s.save(HardState(2, None, 2), entries(3, 5, 2, b"other"), True)
    for index in range(6, 14):
        yield lambda s, n=index: s.save(HardState(2, None, n - 1), entries(n, n, 2), True)
    yield lambda s: take(s, SnapshotMeta(10, 2, CONF))
    yield lambda s: s.compact(8)
    yield lambda s: s.save(HardState(3, "b", 12), entries(13, 13, 3, b"replaced" * 200), True)
    yield lambda s: take(s, SnapshotMeta(12, 2, CONF))
    yield lambda s: s.compact(12)
    yield receive
    yield install
    yield lambda s: s.compact(40)
    for index in range(41, 53):
        yield lambda s, n=index: s.save(HardState(4, None, n - 1), entries(n, n, 4), True)


@dataclass
class Run:
    """views: what may be found after the restart; the first is the least."""

    disk: MemoryDisk
    views: list[View] = field(default_factory=list)
    error: BaseException | None = None


VIEWS = list[View]()  # after each operation of the story, when nothing goes wrong


def run(disk: MemoryDisk, arm: Callable[[MemoryDisk], None] = lambda disk: None) -> Run:
    """The story until it fails, or to its end."""
    done = Run(disk)
    store = LogStore(disk, SEGMENT_BYTES)
    arm(disk)
    for number, act in enumerate(story()):
        done.views = VIEWS[number : number + 2] if VIEWS else []
        try:
            act(store)
        except (PowerGone, DiskFailed) as error:
            done.error = error
            break
    else:
        done.views = VIEWS[-1:]
    disk.before_step = lambda what, name: None
    return done


def told() -> list[View]:
    """Fills VIEWS; the first is that of an empty disk."""
    disk = MemoryDisk()
    store = LogStore(disk, SEGMENT_BYTES)
    views = [View.of(store)]
    for act in story():
        act(store)
        views.append(View.of(store))
    return views


VIEWS = told()


def steps_of(story_on: MemoryDisk) -> int:
    run(story_on)
    return story_on.steps


STEPS = steps_of(MemoryDisk())


def ends_before(step: int) -> Callable[[MemoryDisk], None]:
    def arm(disk: MemoryDisk) -> None:
        def end(what: str, name: str) -> None:
            if disk.steps >= step:
                raise PowerGone

        disk.before_step = end

    return arm


def fails_at(step: int, error: int) -> Callable[[MemoryDisk], None]:
    return lambda disk: disk.fail(step - disk.steps, error)


def restarted(run: Run) -> View:
    """Must start, with one of the views; and what it found must be safe from then on."""
    run.disk.restart()
    view = View.of(LogStore(run.disk, SEGMENT_BYTES))
    assert view in run.views
    run.disk.power_cut(Random(1))
    again = LogStore(run.disk, SEGMENT_BYTES)
    assert View.of(again) == view, "it was built upon, so it must survive"
    last = again.storage.last_index() + 1
    again.save(HardState(9, None, again.storage.hard_state.commit), entries(last, last, 9), True)
    run.disk.power_cut(Random(2))
    assert View.of(LogStore(run.disk, SEGMENT_BYTES)).entries == (
        *view.entries,
        *entries(last, last, 9),
    )
    return view


def test_the_story_has_it_all() -> None:
    done = run(MemoryDisk())
    assert done.error is None
    assert len([name for name in done.disk.names() if name.startswith("wal-")]) > 1
    assert [name for name in done.disk.names() if name.startswith("snapshot")] == [
        "snapshot-0000000000000040"
    ]
    assert STEPS > 100
    restarted(done)


@pytest.mark.parametrize("seed", range(6))
def test_the_power_goes_at_every_step(seed: int) -> None:
    for step in range(STEPS + 1):
        done = run(MemoryDisk(), ends_before(step))
        done.disk.power_cut(Random(seed * 1000 + step))
        restarted(done)


def test_a_kill_at_every_step() -> None:
    """The page cache survives; what is read from it is made durable before it is built upon."""
    for step in range(STEPS + 1):
        restarted(run(MemoryDisk(), ends_before(step)))


def test_the_power_goes_again_at_every_step_of_the_restart() -> None:
    rng = Random(7)
    for step in range(0, STEPS + 1, 3):
        before = run(MemoryDisk(), ends_before(step))
        before.disk.power_cut(rng)
        for within in range(12):
            disk = before.disk.copy()
            ends_before(disk.steps + within)(disk)
            try:
                LogStore(disk, SEGMENT_BYTES)
            except PowerGone:
                disk.before_step = lambda what, name: None
                disk.power_cut(rng)
            disk.before_step = lambda what, name: None
            assert View.of(LogStore(disk, SEGMENT_BYTES)) in before.views


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_every_step_fails_once_and_for_all(error: int) -> None:
    """A failed sync leaves pages that look written and never will be (the twin models it)."""
    for step in range(STEPS):
        done = run(MemoryDisk(), fails_at(step, error))
        if done.error is None:
            continue  # it failed where the process had removed a file already
        assert isinstance(done.error, DiskFailed)
        assert str(done.error).startswith("cannot ")
        steps = done.disk.steps
        with pytest.raises(DiskFailed):
            done.disk.append("wal-0000000000000001", b"x")
        assert done.disk.steps == steps, "nothing is tried any more"
        restarted(done)


def test_a_full_disk_at_every_size() -> None:
    """A start on it needs no space, and nothing that was acknowledged is gone."""
    size = 0
    while True:
        done = run(MemoryDisk(capacity_bytes=size))
        if done.error is None:
            break
        assert "no space left" in str(done.error)
        done.disk.restart()
        assert View.of(LogStore(done.disk, SEGMENT_BYTES)) in done.views
        done.disk.capacity_bytes = None
        restarted(done)
        size += 13
    assert size > 2000


# -- rot -----------------------------------------------------------------------------------------


def finished(count: int = 99) -> tuple[MemoryDisk, View]:
    """A snapshot and a few small segments, after that many saves."""
    disk = MemoryDisk()
    store = LogStore(disk, segment_bytes=60)
    store.save(HardState(1, "a", 0), entries(1, 2, 1), True)
    file = store.begin_snapshot(SnapshotMeta(2, 1, CONF))
    file.write(b"state")
    file.finish()
    for index in range(3, min(3 + count, 10)):
        store.save(HardState(2, None, index - 1), entries(index, index, 2), True)
        store.compact(2)
    return disk, View.of(store)


def found(disk: MemoryDisk) -> View | None:
    """None: it refuses with a sentence."""
    try:
        return View.of(LogStore(disk, SEGMENT_BYTES))
    except LogDamaged:
        return None


@pytest.mark.parametrize("evidence", ["mark", "no mark", "stale mark"])
def test_every_bit_flipped(evidence: str) -> None:
    disk, view = finished()
    if evidence == "no mark":
        disk.remove(MARK_NAME)
    elif evidence == "stale mark":
        disk.put(MARK_NAME, finished(count=1)[0].files[MARK_NAME])
    refused = 0
    for name, data in disk.files.items():
        if name == MARK_NAME and evidence != "mark":
            continue
        for bit in range(8 * len(data.rstrip(b"\0"))):
            disk.flip_bit(name, bit)
            copy = disk.copy()
            disk.flip_bit(name, bit)
            result = found(copy)
            assert result in (None, view), (name, bit)
            assert (result is None) == (name != MARK_NAME), (name, bit)
            refused += result is None
    assert refused > 3000


def test_every_cut_and_every_zeroed_sector_of_every_file() -> None:
    disk, view = finished()
    for name, data in disk.files.items():
        used = len(data.rstrip(b"\0"))  # behind it, space is reserved
        wrongs = [data[:size] for size in range(used)]
        for low in range(0, used, SECTOR_BYTES):
            zeroed = bytearray(data)
            zeroed[low : low + SECTOR_BYTES] = bytes(len(data[low : low + SECTOR_BYTES]))
            wrongs.append(bytes(zeroed))
        for wrong in wrongs:
            copy = disk.copy()
            copy.put(name, wrong)
            result = found(copy)
            assert result in ((None, view) if name == MARK_NAME else (None,)), name


def test_every_file_lost_or_put_in_another_ones_place() -> None:
    disk, view = finished()
    files = disk.files
    for name in files:
        copy = disk.copy()
        copy.remove(name)
        assert found(copy) in ((view,) if name == MARK_NAME else (None,))
        for other, data in files.items():
            if other != name:
                copy = disk.copy()
                copy.put(name, data)
                assert found(copy) in ((view,) if name == MARK_NAME else (None,))


def goes_astray(number: int, where: int | None) -> Callable[[MemoryDisk], None]:
    """That sync of a segment or a snapshot puts its bytes elsewhere; None: nowhere."""

    def arm(disk: MemoryDisk) -> None:
        seen = count(1)

        def before(what: str, name: str) -> None:
            if what == "sync" and name.startswith(("wal-", "snapshot.")) and next(seen) == number:
                disk.stray[name] = None if where is None else (name, where)

        disk.before_step = before

    return arm


@pytest.mark.parametrize("where", [None, 0, 40], ids=["lost", "at 0", "at 40"])
def test_a_write_that_went_astray_while_the_disk_said_all_is_well(where: int | None) -> None:
    """The frame is in the page cache; the next power cut shows where it really is."""
    refused = 0
    for number in range(1, 40):
        disk = MemoryDisk()
        done = run(disk, goes_astray(number, where))
        assert done.error is None
        mark = disk.files[MARK_NAME]
        disk.power_cut(Random(number))
        disk.put(MARK_NAME, mark)
        result = found(disk)
        assert result in (None, VIEWS[-1])
        refused += result is None
    assert refused > 2


# -- the real disk -------------------------------------------------------------------------------


class Ending(Folder):
    """A folder whose process ends before its nth change."""

    left = 1 << 30

    def _writing(self, what: str, name: str) -> "object":
        self.left -= 1
        if self.left < 0:
            raise PowerGone
        return super()._writing(what, name)


def test_a_kill_on_a_real_folder(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 4
        folder = Ending(tmp_path / str(number))
        store = LogStore(folder, SEGMENT_BYTES)
        folder.left = number
        views = VIEWS[-1:]
        for place, act in enumerate(story()):
            try:
                act(store)
            except PowerGone:
                views = VIEWS[place : place + 2]
                break
        folder.close()
        again = Folder(tmp_path / str(number))
        assert View.of(LogStore(again, SEGMENT_BYTES)) in views
        again.close()
        if len(views) == 1:
            break
    assert number > 60
