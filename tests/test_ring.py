"""The ring all-reduce without sockets: every size, every interleaving, a peer lost at any message.

Cost and order after Patarasuk & Yuan 2009: 2 (N-1) steps, each of 1/N of the data.
"""

import random
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from collectives.ring import AllReduce, Chunk, Memory, OutOfOrder, Phase, Send, even_chunk, segment

RANKS = range(1, 10)
Values = NDArray[np.int64]
Packet = tuple[Chunk, Values]


class Rank:
    """One member: its machine, its arrays, and the link that leads to it."""

    def __init__(self, rank: int, size: int, length: int, chunk_length: int) -> None:
        self.machine = AllReduce(rank, size, length, chunk_length)
        self.source = np.random.default_rng(rank).integers(-(10**6), 10**6, length)
        self.before = self.source.copy()
        self.out = np.full(length, -(10**9))
        self.inbox: deque[Packet] = deque()
        self.sent = 0

    def packet(self, send: Send, arrived: Values | None = None) -> Packet:
        self.sent += send.chunk.stop - send.chunk.start
        if send.memory is Memory.ARRIVED:
            assert arrived is not None
            return send.chunk, arrived
        array = self.source if send.memory is Memory.SOURCE else self.out
        return send.chunk, array[send.chunk.start : send.chunk.stop].copy()

    def take(self) -> Packet | None:
        """Handle the next packet as its machine says; what to send on, if anything."""
        came, values = self.inbox.popleft()
        chunk, onward = self.machine.on_chunk(came.phase, came.step, came.index)
        assert chunk == came, "sender and receiver see different bounds"
        at = slice(chunk.start, chunk.stop)
        self.out[at] = values + self.source[at] if chunk.phase is Phase.REDUCE else values
        return None if onward is None else self.packet(onward, values)


class Network:
    """A ring of ranks whose links keep order; `rng` picks the link that delivers next."""

    def __init__(self, size: int, length: int, chunk_length: int, rng: random.Random) -> None:
        self.ranks = [Rank(r, size, length, chunk_length) for r in range(size)]
        self.rng = rng
        self.dead: int | None = None
        self.delivered = 0
        for number, rank in enumerate(self.ranks):
            for send in rank.machine.start():
                self.post(number, rank.packet(send))

    def post(self, sender: int, packet: Packet) -> None:
        self.ranks[(sender + 1) % len(self.ranks)].inbox.append(packet)

    def run(self, lose: int | None = None, at: int = -1) -> None:
        """Deliver until nothing moves; rank `lose` vanishes before message number `at`."""
        while True:
            if self.delivered == at:
                self.dead = lose
            ready = [n for n, r in enumerate(self.ranks) if r.inbox and n != self.dead]
            if not ready:
                return
            number = self.rng.choice(ready)
            onward = self.ranks[number].take()
            self.delivered += 1
            if onward is not None:
                self.post(number, onward)

    def expected(self) -> Values:
        total: Values = np.add.reduce([rank.before for rank in self.ranks])
        return total


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 8, 9, 17, 64, 101])
@pytest.mark.parametrize("chunk_length", [1, 3, 1000])
def test_every_rank_has_the_sum_and_its_source(size: int, length: int, chunk_length: int) -> None:
    network = Network(size, length, chunk_length, random.Random(f"{size},{length}"))
    network.run()
    for rank in network.ranks:
        assert rank.machine.done
        assert size == 1 or (rank.out == network.expected()).all()
        assert (rank.source == rank.before).all()
        assert not rank.inbox, "somebody sent what nobody waits for"


@given(st.integers(1, 9), st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32))
def test_any_interleaving_gives_the_same(size: int, length: int, chunk: int, seed: int) -> None:
    network = Network(size, length, chunk, random.Random(seed))
    network.run()
    for rank in network.ranks:
        assert rank.machine.done
        assert size == 1 or (rank.out == network.expected()).all()


@pytest.mark.parametrize("size", RANKS)
def test_a_rank_lost_at_any_message_never_gives_a_wrong_success(size: int) -> None:
    """Whoever is done has the right sum; whoever needed the lost rank is not done; inputs stay."""
    length, chunk_length = 2 * size + 1, 2
    whole = Network(size, length, chunk_length, random.Random(size))
    whole.run()
    for at in range(whole.delivered + 1):
        lost = at % size
        network = Network(size, length, chunk_length, random.Random(at))
        network.run(lose=lost, at=at)
        for number, rank in enumerate(network.ranks):
            assert (rank.source == rank.before).all(), f"source changed: {size=} {at=} {number=}"
            if rank.machine.done and size > 1:
                assert (rank.out == network.expected()).all(), f"wrong: {size=} {at=} {number=}"
        early = at < size - 1  # nobody can have heard of everybody yet
        others = [r for n, r in enumerate(network.ranks) if n != lost]
        assert not (early and any(rank.machine.done for rank in others))


@pytest.mark.parametrize("size", RANKS)
def test_each_rank_sends_two_n_minus_one_nths(size: int) -> None:
    """Patarasuk & Yuan 2009: 2 (N-1)/N of the data per rank, the least that is possible."""
    length = 8 * 9 * 5 * 7  # divisible by every size
    network = Network(size, length, 100, random.Random(0))
    network.run()
    assert {rank.sent for rank in network.ranks} == {2 * (size - 1) * length // size}


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.parametrize("length", [0, 1, 7, 100])
def test_segments_cover_the_array_once_and_evenly(size: int, length: int) -> None:
    bounds = [segment(number, size, length) for number in range(size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == length
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 10**9), st.integers(1, 9), st.integers(1, 10**6))
def test_chunks_are_even_and_at_most_half_as_long_again(length: int, size: int, aim: int) -> None:
    chunk = even_chunk(length, size, aim)
    longest = -(-length // size)
    assert 1 <= chunk <= max(1, 1.5 * aim)
    assert longest == 0 or -(-longest // chunk) <= max(1, round(longest / aim))


def test_a_chunk_goes_on_before_the_next_one_comes() -> None:
    """Pipelining: with several chunks per segment, every arrival at once causes one send."""
    machine = AllReduce(0, 3, 12, 1)
    assert len(list(machine.start())) == 4
    onward = [machine.on_chunk(Phase.REDUCE, 0, index)[1] for index in range(4)]
    assert [send.chunk.index for send in onward if send] == [0, 1, 2, 3]
    assert {send.chunk.step for send in onward if send} == {1}


@pytest.mark.parametrize("wrong", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (7, 0, 0), (0, 0, 2**31)])
def test_a_chunk_out_of_order_is_refused_and_changes_nothing(wrong: tuple[int, int, int]) -> None:
    machine = AllReduce(1, 3, 30, 5)
    expected = machine.expected
    with pytest.raises(OutOfOrder):
        machine.on_chunk(*wrong)
    assert machine.expected == expected
    machine.on_chunk(0, 0, 0)
    with pytest.raises(OutOfOrder):
        machine.on_chunk(0, 0, 0)


def test_a_chunk_after_the_end_is_refused() -> None:
    with pytest.raises(OutOfOrder):
        AllReduce(0, 1, 10, 5).on_chunk(0, 0, 0)


@pytest.mark.parametrize("bad", [(3, 3, 1, 1), (-1, 3, 1, 1), (0, 3, -1, 1), (0, 3, 1, 0)])
def test_impossible_rings_are_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such ring"):
        AllReduce(*bad)
