"""Copies between a device and the host: nothing is read before it is there, nothing overwritten
before it is gone, whatever the device does when."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.devices.staging import BUFFER_BYTES_MIN, Buffers, Passage, chunks
from tests.fake_device import FakeDevice, Operation


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4, 8]), st.integers(8, 5_000))
def test_chunks_are_even_and_whole(count: int, width: int, most: int) -> None:
    parts = chunks(count, width, most)
    assert [0, *(part.stop for part in parts)] == [*(part.start for part in parts), count]
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) * width < most + width


class Program:
    """A device's program that computes arrays, has each doubled near, and computes on with it."""

    def __init__(self, seed: int) -> None:
        self.device = FakeDevice(random.Random(seed))
        self.buffers = Buffers(self.device)
        self.seen: list[Any] = []

    def begin(self, values: Any, chunk_bytes: int, slots: int) -> tuple[Any, Passage]:
        far = np.full_like(values, -1)
        self.device.compute(lambda: np.copyto(far, values))
        return far, Passage(self.device, self.buffers, far, far.dtype, chunk_bytes, slots)

    def double(self, passage: Passage, fails_at: int = -1) -> None:
        for number, (source, result) in enumerate(passage.rounds()):
            if number == fails_at:
                result[:] = 77
                raise RuntimeError("aborted")
            np.multiply(source, 2, out=result)

    def read(self, far: Any) -> None:
        arrived: Operation = self.device.arrival()
        self.device.compute_after(arrived)
        self.device.compute(lambda: self.seen.append(far.copy()))


@settings(deadline=None)
@given(
    st.integers(0, 10**9),
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.integers(8, 100),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_array_comes_back_doubled(
    seed: int, lengths: list[int], chunk_bytes: int, slots: int, at_once: bool
) -> None:
    """... in whatever order the queues run, several under way at the same time or not."""
    program = Program(seed)
    values = [np.arange(n, dtype=np.float64) + 100 * i for i, n in enumerate(lengths)]
    waiting = []
    for each in values:
        waiting.append(program.begin(each, chunk_bytes, slots))
        while waiting and (not at_once or len(waiting) == len(values)):
            far, passage = waiting.pop(0)
            program.double(passage)
            program.read(far)
    for far, passage in waiting:
        program.double(passage)
        program.read(far)
    program.device.synchronize()
    for seen, each in zip(program.seen, values, strict=True):
        np.testing.assert_array_equal(seen, 2 * each)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 60), st.integers(8, 100), st.integers(0, 8))
def test_what_fails_leaves_the_array_as_it_was(
    seed: int, length: int, chunk_bytes: int, fails_at: int
) -> None:
    program = Program(seed)
    values = np.arange(length, dtype=np.float64)
    far, passage = program.begin(values, chunk_bytes, 2)
    at = min(fails_at, len(chunks(length, 8, chunk_bytes)) - 1)
    if fails_at:
        with pytest.raises(RuntimeError):
            program.double(passage, at)
    passage.restore()
    del passage  # with fails_at = 0 before it was begun
    other, again = program.begin(values + 5, chunk_bytes, 2)  # takes the same buffers
    program.read(far)
    program.double(again)
    program.device.synchronize()
    np.testing.assert_array_equal(program.seen[0], values)
    np.testing.assert_array_equal(other, 2 * (values + 5))


def test_buffers_are_used_again_when_their_copies_are_done() -> None:
    program = Program(1)
    for _ in range(20):
        far, passage = program.begin(np.arange(50_000.0), 1 << 16, 3)
        program.double(passage)
        del passage
        program.device.synchronize()
        assert far[-1] == 2 * 49_999
    assert sorted(len(memory) for memory in program.device.given) == [*[1 << 16] * 3, 7 << 16]


def test_a_buffer_that_a_copy_or_somebody_still_uses_is_not_given_out() -> None:
    device = FakeDevice(random.Random(0))
    buffers = Buffers(device)
    first = buffers.take(10)
    first.until = Operation(lambda: None)  # never done
    del first
    second = buffers.take(10)
    view = second.array(3, np.float32)
    del second
    third = buffers.take(10)  # of the second one there is a view
    assert len(device.given) == 3
    assert len(third.memory) == BUFFER_BYTES_MIN
    del view
    buffers.take(10)
    assert len(device.given) == 3


def test_where_nothing_is_written_nothing_changes() -> None:
    program = Program(2)
    far, passage = program.begin(np.arange(9.0), 24, 2)
    assert [source.tolist() for source, _ in passage.rounds(writes=False)] == [
        *([0, 1, 2], [3, 4, 5], [6, 7, 8]),
    ]
    program.device.synchronize()
    assert far.tolist() == list(range(9))
