"""Bytes of the write-ahead log: whole batches or nothing, never something that was not written."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import wal
from consensus.frames import encode_frame
from consensus.messages import Entry, EntryType, HardState
from consensus.wal_scan import Scan, Verdict, scan

Batch = tuple[HardState | None, list[Entry]]


def written(batches: list[Batch]) -> tuple[bytes, list[int]]:
    """A segment, and the offset after its start frame and after each batch."""
    data = bytearray(wal.encode_start(1, HardState(), (0, 0)))
    ends = [len(data)]
    for number, (hard_state, entries) in enumerate(batches, 2):
        data += wal.encode_batch(number, hard_state, entries)
        ends.append(len(data))
    return bytes(data), ends


def scanned(data: bytes, synced: int | None = 0) -> Scan:
    return scan([(1, data)], synced)


def replayed(batches: list[Batch]) -> tuple[HardState, list[Entry]]:
    """The model: what a reader must find after these batches."""
    state, log = HardState(), list[Entry]()
    for hard_state, entries in batches:
        state = hard_state or state
        if entries:
            log = log[: entries[0].index - 1] + entries
    return state, log


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    """Batches as a follower would write them, with truncations."""
    batches: list[Batch] = []
    last, term = 0, 1
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(0, 3))
        first = draw(st.integers(max(1, last - 2), last + 1))
        term += draw(st.integers(0, 2))
        kinds = st.sampled_from(EntryType)
        entries = [
            Entry(first + n, term, draw(kinds), draw(st.binary(max_size=12))) for n in range(count)
        ]
        last = first + count - 1 if count else last
        vote = draw(st.sampled_from([None, "a", "b"]))
        state = draw(st.sampled_from([None, HardState(term, vote, 0)]))
        batches.append((state, entries))
    return batches


@settings(deadline=None, max_examples=60)
@given(histories())
def test_what_was_written_is_read(batches: list[Batch]) -> None:
    data, _ = written(batches)
    found = scanned(data)
    assert (found.hard_state, found.entries) == replayed(batches)
    assert (found.valid_bytes, found.verdict) == (len(data), Verdict.CLEAN)
    assert found.next_number == len(batches) + 2


@settings(deadline=None, max_examples=25)
@given(histories())
def test_cut_at_every_byte_gives_exactly_the_whole_frames(batches: list[Batch]) -> None:
    data, ends = written(batches)
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends)
        found = scanned(data[:cut])
        assert (found.hard_state, found.entries) == replayed(batches[: max(whole - 1, 0)])
        assert found.valid_bytes == (ends[whole - 1] if whole else 0)
        assert found.verdict is (Verdict.CLEAN if cut in ends else Verdict.TORN_TAIL)
        assert scanned(data[:cut], synced=whole).verdict is found.verdict
        assert scanned(data[:cut], synced=whole + 1).verdict is Verdict.DAMAGED


@settings(deadline=None, max_examples=6)
@given(histories())
def test_one_flipped_bit_is_damage_and_never_yields_what_was_not_written(
    batches: list[Batch],
) -> None:
    data, ends = written(batches)
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        found = scanned(bytes(broken))
        whole = sum(end <= bit // 8 for end in ends)
        assert (found.hard_state, found.entries) == replayed(batches[: max(whole - 1, 0)])
        assert found.verdict is Verdict.DAMAGED
        assert found.flaw


SMALL: list[Batch] = [
    (HardState(1, "a", 0), [Entry(1, 1, EntryType.NORMAL, b"one")]),
    (None, [Entry(2, 1, EntryType.NORMAL, b"two"), Entry(3, 1, EntryType.NORMAL, b"three")]),
    (HardState(2, None, 1), [Entry(2, 2, EntryType.NORMAL, b"other")]),
]
LONG: Batch = (None, [Entry(3, 2, EntryType.NORMAL, b"x" * 3000)])


def test_truncate_and_append_are_one_step() -> None:
    data, _ = written(SMALL)
    found = scanned(data)
    assert [(e.index, e.term) for e in found.entries] == [(1, 1), (2, 2)]
    assert found.hard_state == HardState(2, None, 1)


def test_nothing_at_all_is_a_new_log_unless_something_was_synced() -> None:
    assert scan([], None).verdict is Verdict.CLEAN
    assert scan([], 0).verdict is Verdict.CLEAN
    assert scan([], 1).verdict is Verdict.DAMAGED


@pytest.mark.parametrize("sector", range(7))
def test_every_zeroed_sector_of_the_last_frame_is_torn_unless_it_was_synced(sector: int) -> None:
    data, ends = written([*SMALL, LONG])
    low, high = max(ends[-2], 512 * sector), min(len(data), 512 * sector + 512)
    broken = data[:low] + bytes(high - low) + data[high:]
    found = scanned(broken, synced=4)
    assert (found.verdict, found.valid_bytes) == (Verdict.TORN_TAIL, ends[-2])
    assert scanned(broken, synced=5).verdict is Verdict.DAMAGED
    assert scanned(broken, synced=None).verdict is Verdict.DAMAGED


def test_a_tail_that_begins_with_zeros_is_torn() -> None:
    data, ends = written(SMALL)  # the frame's first sector never arrived, a later one did
    found = scanned(data + bytes(600) + b"rest", synced=4)
    assert (found.verdict, found.valid_bytes) == (Verdict.TORN_TAIL, ends[-1])


def test_zeros_up_to_the_end_of_a_segment_are_reserved_space() -> None:
    (_, first), (_, second) = segments()
    for zeros in (1, 24, 4096):
        pad = bytes(zeros)
        found = scan([(1, first + pad), (4, second + pad)], 5)
        assert (found.verdict, found.valid_bytes) == (Verdict.CLEAN, len(second))
        assert scan([(1, first + pad), (4, second + pad)], 6).verdict is Verdict.DAMAGED
        assert scan([(1, first + pad + b"x"), (4, second)], 3).verdict is Verdict.DAMAGED
        begun = scan([(1, first + pad), (4, pad)], 3)
        assert (begun.verdict, begun.valid_bytes) == (Verdict.TORN_TAIL, 0)
        assert begun.whole_bytes == len(first)


def test_a_zeroed_hole_before_a_whole_frame_is_damage() -> None:
    data, ends = written([*SMALL, LONG])
    found = scanned(data[: ends[1]] + bytes(ends[2] - ends[1]) + data[ends[2] :])
    assert (found.verdict, found.valid_bytes) == (Verdict.DAMAGED, ends[1])


@pytest.mark.parametrize("what", ["twice", "lost", "swapped", "older"])
def test_a_frame_that_was_written_elsewhere_is_damage(what: str) -> None:
    data, ends = written(SMALL)
    frames = [data[low:high] for low, high in zip([0, *ends], ends, strict=False)]
    order = {"twice": [0, 1, 1, 2, 3], "lost": [0, 1, 3], "swapped": [0, 2, 1, 3]}
    picked = order.get(what, [0, 1, 2, 1])
    assert scanned(b"".join(frames[place] for place in picked)).verdict is Verdict.DAMAGED


def test_a_whole_log_inside_the_torn_entry_is_not_taken_for_frames() -> None:
    inner, _ = written(SMALL)
    data, ends = written([*SMALL, (None, [Entry(3, 2, EntryType.NORMAL, inner)])])
    found = scanned(data[:-1])
    assert (found.verdict, found.valid_bytes) == (Verdict.TORN_TAIL, ends[-2])


def segments() -> list[tuple[int, bytes]]:
    """SMALL in two: frames 1 (start) 2 3, and 4 (start) 5."""
    first = wal.encode_start(1, HardState(), (0, 0)) + wal.encode_batch(2, *SMALL[0])
    second = wal.encode_start(4, HardState(1, "a", 0), (3, 1)) + wal.encode_batch(5, *SMALL[2])
    return [(1, first + wal.encode_batch(3, *SMALL[1])), (4, second)]


def test_segments_read_as_one_log() -> None:
    found = scan(segments(), 5)
    assert (found.hard_state, found.entries) == replayed(SMALL)
    assert (found.verdict, found.next_number) == (Verdict.CLEAN, 6)
    assert found.starts == [(1, 0), (4, 3)]


def test_a_later_segment_reads_alone_where_a_snapshot_covers_the_rest() -> None:
    """Its first batch replaced an entry of the segment that is gone."""
    found = scan(segments()[1:], 5)
    assert (found.base, found.entries, found.verdict) == ((2, 2), [], Verdict.CLEAN)
    assert found.hard_state == HardState(2, None, 1)


def test_a_missing_segment_or_a_flaw_before_the_last_one_is_damage() -> None:
    first, second = segments()
    start = wal.encode_start(6, HardState(2, None, 1), (2, 2))
    third = (6, start + wal.encode_batch(7, None, [Entry(3, 2)]))
    assert scan([first, second, third], 0).verdict is Verdict.CLEAN
    assert scan([first, third], 0).verdict is Verdict.DAMAGED
    for cut in range(len(first[1])):
        assert scan([(1, first[1][:cut]), second], 0).verdict is Verdict.DAMAGED
    begun = scan([first, (4, second[1][:10])], 3)
    assert (begun.verdict, begun.valid_bytes, begun.next_number) == (Verdict.TORN_TAIL, 0, 4)
    assert begun.entries == replayed(SMALL[:2])[1]


def test_the_first_two_frames_of_a_segment_are_one_write() -> None:
    """The second is whole, in a sector of its own: no evidence that the first was ever synced."""
    start = wal.encode_start(1, HardState(1, "\U0001f4be" * 128, 0), (0, 0))
    data = start + wal.encode_batch(2, *SMALL[0])
    assert len(start) > 512
    broken = bytes(512) + data[512:]
    assert scanned(broken).verdict is Verdict.TORN_TAIL
    third = wal.encode_batch(3, *SMALL[1])
    assert scanned(broken + third).verdict is Verdict.DAMAGED


def test_a_segment_must_begin_where_the_one_before_ended() -> None:
    first, _ = segments()
    wrong = (4, wal.encode_start(4, HardState(1, "a", 0), (2, 1)))
    assert scan([first, wrong], 0).verdict is Verdict.DAMAGED


def test_a_base_voids_the_log_before_it() -> None:
    data, _ = written(SMALL)
    frame = wal.encode_batch(5, HardState(4, None, 90), [Entry(91, 4)], base=(90, 3))
    found = scanned(data + frame)
    assert (found.base, found.entries) == ((90, 3), [Entry(91, 4)])
    assert found.verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgpack.packb("text"),
        msgpack.packb([None, None, 5, [[1, 0, b""]]]),  # a gap: entry 5 of an empty log
        msgpack.packb([None, None, 0, [[1, 0, b""]]]),  # no entry has index 0
        msgpack.packb([None, None, 1, [[0, 0, b""]]]),  # term 0
        msgpack.packb([None, None, 1, [[1, 9, b""]]]),  # unknown type
        msgpack.packb([[1, 7, 0], None, 1, []]),  # a vote that is no id
        msgpack.packb([None, [1], 1, []]),  # a base without a term
    ],
)
def test_sound_bytes_without_sense_are_damage(payload: bytes) -> None:
    start = wal.encode_start(1, HardState(), (0, 0))
    found = scanned(start + encode_frame(wal.BATCH, 2, payload))
    assert (found.verdict, found.valid_bytes, found.entries) == (Verdict.DAMAGED, len(start), [])


def test_not_a_log_at_all() -> None:
    assert scanned(b"hello, I am some other file, not a log").verdict is Verdict.DAMAGED


def test_segments_are_named_for_their_first_frame() -> None:
    assert wal.segment_number(wal.segment_name(17)) == 17
    assert wal.segment_name(9) < wal.segment_name(10)
    for name in ("wal-", "wal-x", "raft.log", "snapshot-1"):
        assert wal.segment_number(name) is None
