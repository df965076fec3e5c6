"""When a snapshot is due, and that taking one in slices disturbs nobody and nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState
from p2p.clock import ManualClock
from p2p.replicated.reader import from_chunks
from p2p.replicated.state import State
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.storage.snapshots import MIB, Captured, SnapshotPolicy, SnapshotTaker

CONF = ConfState(("a",))
POLICY = SnapshotPolicy()


@pytest.mark.parametrize(
    ("last", "applied", "log_mib", "snapshot_mib", "in_use", "due"),
    [
        (0, 0, 0, 0, False, False),
        (0, 9_999, 7, 0, False, False),
        (0, 10_000, 0, 0, False, True),
        (10_000, 19_999, 0, 0, False, False),
        (10_000, 20_000, 0, 0, False, True),
        # One was put off: the next one is at the same entry as the others' again.
        (13_000, 20_000, 0, 0, False, True),
        (0, 1, 8, 0, False, True),
        (0, 10_000, 8, 8, False, True),
        # A large state is not written again for little.
        (0, 10_000, 8, 80, False, False),
        (0, 100_000, 0, 80, False, True),
        (0, 1, 80, 80, False, True),
        # A snapshot that somebody is getting stays longer, but not for ever.
        (0, 10_000, 8, 0, True, False),
        (0, 40_000, 0, 0, True, True),
        (0, 1, 32, 0, True, True),
    ],
)
def test_when_one_is_due(
    last: int, applied: int, log_mib: int, snapshot_mib: int, in_use: bool, due: bool
) -> None:
    sizes = (log_mib * MIB, snapshot_mib * MIB)
    assert POLICY.is_due(last, applied, *sizes, in_use) is due


class WorkClock(ManualClock):
    """Every look at it costs: as if something was worked on between two."""

    cost_s = 0.0003

    def monotonic_s(self) -> float:
        self.now_s += self.cost_s
        return self.now_s


class Bench:
    def __init__(self, entries: int = 0, **policy: float) -> None:
        self.clock = WorkClock()
        self.disk = MemoryDisk()
        self.store = LogStore(self.disk)
        made = [Entry(index, 1, EntryType.NORMAL, b"x" * 100) for index in range(1, entries + 1)]
        self.store.save(HardState(1, None, entries), made, must_sync=True)
        self.slices_s: list[float] = []
        self.needed_after = 1_000
        self.taker = SnapshotTaker(
            self.store,
            self.clock,
            self._call_later,
            replace(POLICY, **policy),  # type: ignore[arg-type]
            lambda: self.needed_after,
        )

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        def timed() -> None:
            begun_s = self.clock.now_s
            callback()
            self.slices_s.append(self.clock.now_s - begun_s)

        self.clock.call_later(delay_s, timed)

    def begin(self, index: int, state: State) -> None:
        self.taker.begin(Captured(SnapshotMeta(index, 1, CONF), state), index * 100)

    def run(self) -> None:
        for _ in range(1_000):
            self.clock.advance(0.01)


def stored(count: int) -> State:
    state = State(cluster_id="c")
    for number in range(count):
        state = replace(state, store=state.store.having(f"k{number}", bytes([number]) * 50_000))
    return state


def test_slices_are_short_and_the_state_is_the_one_of_the_beginning() -> None:
    bench = Bench(entries=10)
    state = stored(60)
    bench.begin(10, state)
    state = replace(state, store=state.store.having("k1", None))  # commands go on
    bench.run()
    assert len(bench.slices_s) > 5
    assert max(bench.slices_s) <= POLICY.slice_s + 2 * WorkClock.cost_s
    assert bench.store.snapshot_meta == SnapshotMeta(10, 1, CONF)
    assert from_chunks(bench.store.snapshot_chunks()) == stored(60)
    assert from_chunks(LogStore(bench.disk).snapshot_chunks()) == stored(60), "and on disk"


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({"keep_entries": 30}, 30),
        ({"keep_entries": 0}, 0),
        ({"keep_entries": 1_000}, 80),
        ({"keep_bytes": 1_050}, 10),
        ({"keep_bytes": 0}, 0),
    ],
)
def test_of_the_log_behind_it_a_little_stays(policy: dict[str, float], kept: int) -> None:
    bench = Bench(entries=100, **policy)
    bench.begin(80, State())
    bench.run()
    storage = bench.store.storage
    assert (storage.first_index(), storage.last_index()) == (81 - kept, 100)


@pytest.mark.parametrize(
    ("needed_after", "kept"), [(1_000, 0), (70, 10), (60, 20), (59, 20), (0, 20)]
)
def test_who_is_catching_up_finds_the_entries_but_not_for_ever(
    needed_after: int, kept: int
) -> None:
    bench = Bench(entries=100, keep_entries=0, every_entries=5)  # patience: four times that
    bench.needed_after = needed_after
    bench.begin(80, State())
    bench.run()
    assert bench.store.storage.first_index() == 81 - kept


def test_none_is_due_while_one_is_under_way() -> None:
    bench = Bench(entries=100, every_entries=1)
    assert bench.taker.is_due(10, 1_000, in_use=False)
    bench.begin(10, stored(60))
    assert not bench.taker.is_due(50, 5_000, in_use=False)
    bench.run()
    assert not bench.taker.is_due(10, 1_000, in_use=False)
    assert bench.taker.is_due(11, 1_100, in_use=False)


def test_an_installed_snapshot_ends_the_one_under_way() -> None:
    bench = Bench(entries=100)
    bench.begin(10, stored(60))
    bench.clock.advance(0.01)
    bench.taker.abandon(50, 5_000)
    bench.run()
    assert bench.store.snapshot_meta.index == 0
    assert not bench.taker.is_due(51, 5_100, in_use=False)
    bench.begin(60, stored(1))
    bench.run()
    assert bench.store.snapshot_meta.index == 60


def test_one_that_was_found_damaged_is_taken_again() -> None:
    bench = Bench(entries=100)
    bench.begin(10, stored(1))
    bench.run()
    assert not bench.taker.is_due(11, 1_100, in_use=False)
    bench.taker.force()
    assert bench.taker.is_due(11, 1_100, in_use=True)
    assert bench.taker.is_due(10, 1_000, in_use=False), "though nothing newer is there to take"
    bench.begin(10, stored(1))
    bench.run()
    assert not bench.taker.is_due(10, 1_000, in_use=False)
