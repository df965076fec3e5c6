"""Bytes of the write-ahead log: whole batches or nothing, never something that was not written."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import wal
from consensus.messages import Entry, EntryType, HardState
from consensus.wal import Verdict

Batch = tuple[HardState | None, list[Entry]]


def written(batches: list[Batch]) -> tuple[bytes, list[int]]:
    """The file, and the offset after the header and after each batch."""
    data = bytearray(wal.HEADER)
    ends = [len(data)]
    for hard_state, entries in batches:
        data += wal.encode(hard_state, entries, len(data))
        ends.append(len(data))
    return bytes(data), ends


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
    found = wal.scan(data)
    assert (found.hard_state, found.entries) == replayed(batches)
    assert (found.valid_length, found.verdict) == (len(data), Verdict.CLEAN)


@settings(deadline=None, max_examples=25)
@given(histories())
def test_cut_at_every_byte_gives_exactly_the_whole_frames(batches: list[Batch]) -> None:
    data, ends = written(batches)
    for cut in range(len(wal.HEADER), len(data)):
        whole = sum(end <= cut for end in ends) - 1
        found = wal.scan(data[:cut])
        assert (found.hard_state, found.entries) == replayed(batches[:whole])
        assert found.valid_length == ends[whole]
        assert found.verdict is (Verdict.CLEAN if cut in ends else Verdict.TORN_TAIL)


@settings(deadline=None, max_examples=6)
@given(histories())
def test_one_flipped_bit_never_yields_what_was_not_written(batches: list[Batch]) -> None:
    data, ends = written(batches)
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        found = wal.scan(bytes(broken))
        if bit // 8 < len(wal.HEADER):
            assert (found.verdict, found.valid_length) == (Verdict.DAMAGED, 0)
            continue
        frame = sum(end <= bit // 8 for end in ends) - 1
        assert (found.hard_state, found.entries) == replayed(batches[:frame])
        last = frame == len(batches) - 1
        assert found.verdict is (Verdict.TORN_TAIL if last else Verdict.DAMAGED)


SMALL: list[Batch] = [
    (HardState(1, "a", 0), [Entry(1, 1, EntryType.NORMAL, b"one")]),
    (None, [Entry(2, 1, EntryType.NORMAL, b"two"), Entry(3, 1, EntryType.NORMAL, b"three")]),
    (HardState(2, None, 1), [Entry(2, 2, EntryType.NORMAL, b"other")]),
]


def test_truncate_and_append_are_one_step() -> None:
    data, _ = written(SMALL)
    found = wal.scan(data)
    assert [(e.index, e.term) for e in found.entries] == [(1, 1), (2, 2)]
    assert found.hard_state == HardState(2, None, 1)


@pytest.mark.parametrize("length", range(len(wal.HEADER) + 1))
def test_an_empty_or_begun_file_is_no_damage(length: int) -> None:
    found = wal.scan(wal.HEADER[:length])
    assert found.entries == []
    assert found.verdict is (Verdict.TORN_TAIL if 0 < length < len(wal.HEADER) else Verdict.CLEAN)
    assert found.valid_length == (length if length == len(wal.HEADER) else 0)


def test_a_tail_of_zeros_is_torn() -> None:
    data, ends = written(SMALL)  # the file grew, its last sectors never reached the disk
    for zeros in (1, 12, 512, 4096):
        found = wal.scan(data + bytes(zeros))
        assert (found.verdict, found.valid_length) == (Verdict.TORN_TAIL, ends[-1])


def test_a_zeroed_hole_in_the_middle_is_damage() -> None:
    data, ends = written(SMALL)
    found = wal.scan(data[: ends[1]] + bytes(ends[2] - ends[1]) + data[ends[2] :])
    assert (found.verdict, found.valid_length) == (Verdict.DAMAGED, ends[1])


def test_a_whole_log_inside_the_torn_entry_is_not_taken_for_frames() -> None:
    inner, _ = written(SMALL)
    data, ends = written([*SMALL, (None, [Entry(3, 2, EntryType.NORMAL, inner)])])
    found = wal.scan(data[:-1])
    assert (found.verdict, found.valid_length) == (Verdict.TORN_TAIL, ends[-2])


def test_a_frame_at_the_wrong_place_is_refused() -> None:
    frame = wal.encode(None, SMALL[0][1], 4096)
    assert wal.scan(wal.HEADER + frame).verdict is Verdict.TORN_TAIL


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgpack.packb("text"),
        msgpack.packb([None, 5, [[1, 0, b""]]]),  # a gap: entry 5 of an empty log
        msgpack.packb([None, 1, [[0, 0, b""]]]),  # term 0
        msgpack.packb([None, 1, [[1, 9, b""]]]),  # unknown type
        msgpack.packb([[1, 7, 0], 1, []]),  # a vote that is no id
    ],
)
def test_sound_bytes_without_sense_are_damage(payload: bytes) -> None:
    offset = len(wal.HEADER)
    frame = wal._FRAME.pack(wal._MARKER, len(payload), wal._checksum(payload, offset)) + payload
    found = wal.scan(wal.HEADER + frame)
    assert (found.verdict, found.valid_length, found.entries) == (Verdict.DAMAGED, offset, [])


def test_not_a_log_at_all() -> None:
    assert wal.scan(b"hello, I am some other file").verdict is Verdict.DAMAGED
