"""Shared memory: what others can do with it, what is left of it, and that results are right."""

import fcntl
import gc
import mmap
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectives import futex, kernels, shm_plan
from collectives.call import Call, Kind
from collectives.errors import Aborted, LostPeer, OutOfStep
from collectives.kernels import portable
from collectives.reductions import Reduction
from collectives.shm_control import ABANDONED, reached
from collectives.shm_memory import (
    FREE_BYTES_MAX,
    MEMORY,
    SMALL_BYTES_MAX,
    RegisteredMemory,
    empty,
)
from collectives.shm_plan import Pieces, Plan
from collectives.shm_segments import Mapping, Segment
from tests.shm_ranks import Array, Rank, Turns, expected, ranks

KINDS = [kind for kind in Kind if kind is not Kind.ALL_TO_ALL]  # whose length all know
SMALL_CHUNK = 4096
STEPS_MAX = 10_000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that little data needs many steps; of one page, as the segments need."""
    for module in ("shm_plan", "shm_control"):
        monkeypatch.setattr(f"collectives.{module}.CHUNK_BYTES", SMALL_CHUNK)
        monkeypatch.setattr(f"collectives.{module}.WHOLE_BYTES_MAX", 512)
    shm_plan.plan_of.cache_clear()
    monkeypatch.setattr("collectives.shm_passes.BLOCK_BYTES", 1024)
    monkeypatch.setattr("collectives.shm_passes.PASS_BYTES", 1024)
    monkeypatch.setattr("collectives.shm_operations.STAGED_BYTES_MAX", 256)
    yield
    shm_plan.plan_of.cache_clear()


# Segments.


def test_nobody_can_write_to_anothers_segment() -> None:
    segment = Segment(8192)
    path = f"/proc/{segment.location.pid}/fd/{segment.location.fd}"
    fd = os.open(path, os.O_RDWR)  # the same user may open it; root may open anything
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 8192)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, 1033, 0)  # no more seals
    finally:
        os.close(fd)
    segment.memory[0] = 7
    mapping = Mapping(segment.location)
    assert mapping.memory[0] == 7
    with pytest.raises(TypeError):
        mapping.memory[0] = 8  # type: ignore[index]
    mapping.close()
    segment.close()


def test_a_segment_that_is_not_the_one_is_refused() -> None:
    first, second = Segment(4096), Segment(4096)
    wrong = second.location
    other = type(wrong)(wrong.pid, first.location.fd, wrong.device, wrong.inode, wrong.size)
    with pytest.raises(OSError, match="another file"):
        Mapping(other)
    first.close()
    with pytest.raises(FileNotFoundError):
        Mapping(first.location)
    second.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_open_a_segment() -> None:
    segment = Segment(4096)
    child = os.fork()
    if child == 0:
        status = 9
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            Mapping(segment.location)
        except PermissionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    segment.close()


# Futex.


def test_a_wait_ends_when_the_word_changes_and_needs_no_write_access() -> None:
    segment = Segment(4096)
    mapping = Mapping(segment.location)
    word = np.frombuffer(segment.memory, np.uint32)[:1]
    with ThreadPoolExecutor(1) as pool:
        futex.wait(mapping.address, 5)  # is not 5: returns at once
        asleep = pool.submit(futex.wait, mapping.address, 0)
        while not asleep.done():
            word[0] = 1
            futex.wake(segment.address)
    del word
    mapping.close()
    segment.close()
    with pytest.raises(OSError, match="futex"):
        futex.wake(8)


@pytest.mark.parametrize("loops", [portable, *([kernels.NATIVE] if kernels.NATIVE else [])])
def test_looking_ends_when_the_word_is_reached_or_its_rank_has_left(loops: Any) -> None:
    word = np.zeros(1, np.uint32)
    address, for_ever = word.ctypes.data, 1 << 62
    loops.look(address, 1, 1000)
    for steps, seen in ((0, 0), (4, 5), (1, ABANDONED), ((1 << 31) - 1, 0)):
        word[0] = seen
        loops.look(address, steps, for_ever)


def test_progress_wraps() -> None:
    assert reached(0, 0)
    assert reached(5, 4)
    assert not reached(4, 5)
    assert reached(1, (1 << 31) - 1)
    assert not reached((1 << 31) - 1, 1 << 31)


# Registered memory.


def test_memory_is_found_by_any_view_of_it_and_used_again() -> None:
    memory = RegisteredMemory()
    small, large = memory.empty((3, 5), "f4"), memory.empty(SMALL_BYTES_MAX + 1, "u1")
    assert small.shape == (3, 5)
    place = memory.find(small)
    inner = memory.find(small[1:])
    assert place is not None
    assert inner is not None
    assert (inner.number, inner.offset) == (place.number, place.offset + 20)
    assert memory.find(np.empty(3)) is None
    view, address = large[10:], large.ctypes.data
    del large
    assert memory.empty(SMALL_BYTES_MAX + 1, "u1").ctypes.data != address  # `view` lives
    del view
    assert memory.empty(SMALL_BYTES_MAX + 1, "u1").ctypes.data == address
    memory.forget_all()
    small[:] = 3  # still there, but not for others
    assert memory.find(small) is None


def test_the_child_of_a_fork_shares_none_of_its_parents_memory() -> None:
    array = empty(100, "f8")
    assert MEMORY.find(array) is not None
    MEMORY.trim()
    mapped = held()[2]  # also by what other tests still hold; it may go in the child
    child = os.fork()
    if child == 0:
        found = MEMORY.find(array) is not None
        another = empty(100, "f8")
        another[:] = 1
        os._exit(found or held()[2] > mapped + 1 or MEMORY.find(another) is None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_more_than_so_much_unused_memory_is_kept() -> None:
    memory = RegisteredMemory()
    size = FREE_BYTES_MAX // 8
    made = [memory.empty(size, "u1") for _ in range(10)]
    made.clear()
    memory.empty(1, "u1")
    assert memory.forgotten == 2
    memory.trim()
    assert memory.forgotten == 11


# What the plan says.


@given(
    st.sampled_from(KINDS), st.integers(0, 3000), st.sampled_from([1, 2, 4, 8]), st.integers(1, 9)
)
def test_every_rank_needs_what_it_must_and_it_fits_the_slot(
    kind: Kind, length: int, itemsize: int, size: int
) -> None:
    plans = [Plan(kind, length, itemsize, size - 1, rank, size) for rank in range(size)]
    assert len({(plan.steps, plan.chunks) for plan in plans}) == 1
    for rank, plan in enumerate(plans):
        needs = [plan.need(chunk, rank) for chunk in range(plan.chunks)]
        whole = sum(need.length for need in needs)
        if plan.by_segments:
            of_all = [p.need(c, p.rank).length for p in plans for c in range(plan.chunks)]
            assert sum(of_all) == length
            segments = [plan.whole_segment(other) for other in range(size)]
            assert [0, *(s.stop for s in segments)] == [*(s.start for s in segments), length]
            assert all(s.start * itemsize % 64 == 0 or s.start == length for s in segments)
        else:
            assert whole == length
        for chunk in range(plan.chunks):
            staged = sorted((n.at, n.at + n.length) for n in plan.staged(chunk))
            assert all(a[1] <= b[0] for a, b in pairwise(staged))
            assert not staged or staged[-1][1] * itemsize <= shm_plan.CHUNK_BYTES


@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 8]))
def test_pieces_of_all_to_all_are_everything_once(size: int, seed: int, itemsize: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 2000, (size, size)) * (random.random((size, size)) < 0.7)
    sends = {rank: tuple(map(int, row)) for rank, row in enumerate(counts)}
    for rank in range(size):
        pieces = Pieces(itemsize, rank, size)
        receives = tuple(int(counts[sender][rank]) for sender in range(size))
        chunks = pieces.chunks(sends)
        taken = [one for c in range(chunks) for one in pieces.taken(sends, receives, c)]
        places = sorted((t.start, t.start + t.source.length) for _, t in taken if t.source.length)
        assert [0, *(stop for _, stop in places)] == [
            *(start for start, _ in places),
            sum(receives),
        ]
        for chunk in range(chunks):
            for other, one in pieces.taken(sends, receives, chunk):
                offered = Pieces(itemsize, other, size).staged(sends[other], chunk)
                assert other == rank or one.source in offered
                assert one.source.at * itemsize < shm_plan.CHUNK_BYTES


# Operations, in turns: every order of events that the waits allow is as good as any other.


def calls_of(kinds: list[Kind], seed: int, one: Rank) -> Iterator[Call]:
    """The same calls on every rank, with this rank's data, checked when they are done."""
    rank, size = one.member.rank, one.member.size
    same = random.Random(seed)
    own = random.Random(seed * 1000 + rank)
    for number, kind in enumerate(kinds, 1):
        if kind is Kind.ALL_TO_ALL:
            yield from all_to_all_of(one, same, own, number)
            continue
        length = same.choice([0, 1, 3, 63, 500, 1500, 5000])
        dtype, root = same.choice(["i4", "f8", "u1"]), same.randrange(size)
        op, all_registered = same.choice(["sum", "max"]), same.random() < 0.4
        per = size if kind in (Kind.REDUCE_SCATTER, Kind.SCATTER) else 1
        values = [
            np.random.default_rng([seed, number, r]).integers(0, 100, length * per).astype(dtype)
            for r in range(size)
        ]
        gives = kind not in (Kind.SCATTER, Kind.BROADCAST) or rank == root
        registered = [all_registered or own.random() < 0.5 for _ in "so"]
        source = one.array(length * per if gives else 0, dtype, registered[0])
        source[:] = values[rank] if gives else 0
        wanted = expected(kind, values, op, root, rank)
        out = one.array(0 if wanted is None else len(wanted), dtype, registered[1])
        in_place = kind is Kind.ALL_REDUCE and same.random() < 0.3
        out = source if in_place else out
        one.source, one.out = source, out
        reduction = Reduction(op, source.dtype)
        yield Call(kind, number, number, source, out, length, reduction, root)
        assert wanted is None or (out == wanted).all(), f"{kind.name} of {length} on rank {rank}"
        assert in_place or not gives or (source == values[rank]).all()
        source[:] = 77  # it is ours again: nobody may read it any more
        out[:] = 78


def all_to_all_of(
    one: Rank, same: random.Random, own: random.Random, number: int
) -> Iterator[Call]:
    rank, size = one.member.rank, one.member.size
    most = same.choice([1, 40, 3000])
    counts = [[same.randrange(most) for _ in range(size)] for _ in range(size)]
    sends, receives = tuple(counts[rank]), tuple(row[rank] for row in counts)
    one.source = source = one.array(sum(sends), "i4", own.random() < 0.5)
    one.out = out = one.array(sum(receives), "i4", own.random() < 0.5)
    source[:] = np.arange(len(source)) + 10_000 * rank
    before = source.copy()
    yield Call(*(Kind.ALL_TO_ALL, number, number, source, out, 0), sends=sends, receives=receives)
    firsts = [10_000 * sender + sum(counts[sender][:rank]) for sender in range(size)]
    pieces = [np.arange(n) + first for n, first in zip(receives, firsts, strict=True)]
    assert (out == np.concatenate(pieces)).all(), f"ALL_TO_ALL {counts} on rank {rank}"
    assert (source == before).all()
    source[:], out[:] = 77, 78


def replay(seed: int, size: int) -> str:
    return f"replay: the test with seed {seed}, {size} ranks"


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(12))
def test_every_kind_is_right_in_any_order_of_turns(seed: int, size: int) -> None:
    rng = random.Random(seed)
    kinds = [rng.choice(list(Kind)) for _ in range(8)]
    with ranks(size) as of:
        turns = Turns(of, rng)
        for rank, one in enumerate(of):
            turns.start(rank, lambda _, one=one: calls_of(kinds, seed, one))
        for _ in range(STEPS_MAX):
            if not turns.turn():
                break
        assert sorted(turns.finished) == list(range(size)), replay(seed, size)


@pytest.mark.parametrize("seed", range(40))
def test_a_rank_that_leaves_anywhere_spoils_nobodys_result(seed: int) -> None:
    """After some turns one rank leaves, and its caller does what it likes with its arrays."""
    rng = random.Random(seed)
    size = rng.choice([2, 3, 4])
    kinds = [rng.choice(list(Kind)) for _ in range(3)]
    with ranks(size) as of:
        turns = Turns(of, rng)
        for rank, one in enumerate(of):
            turns.start(rank, lambda _, one=one: calls_of(kinds, seed, one))
        for _ in range(rng.randrange(60)):
            turns.turn()
        if turns.work:
            leaves = rng.choice(list(turns.work))
            before = of[leaves].source.copy()
            in_place = of[leaves].source is of[leaves].out
            turns.fail(leaves, Aborted("the test says so"))
            assert in_place or (of[leaves].source == before).all(), "an abort changed the input"
            of[leaves].source[:] = 99
            of[leaves].out[:] = 99
        for _ in range(STEPS_MAX):
            if not turns.turn():
                break
        assert not turns.work, f"{turns.work} wait for ever; {replay(seed, size)}"
        others = [error for rank, error in turns.failed.items() if rank != leaves]
        assert all(isinstance(error, LostPeer) for error in others)


# Operations in threads, which really sleep and are woken.


def all_reduce_of(one: Rank, source: Array, out: Array) -> None:
    reduction = Reduction("sum", source.dtype)
    call = Call(Kind.ALL_REDUCE, 1, 1, source, out, len(source), reduction)
    one.operations.run(call)


@given(
    st.integers(2, 4),
    st.lists(st.integers(0, 4000), min_size=1, max_size=4),
    st.sampled_from(["f4", "i8", "f2"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25)
def test_threads_get_equal_bits(size: int, lengths: list[int], dtype: str, seed: int) -> None:
    def work(one: Rank) -> list[bytes]:
        rng = np.random.default_rng([seed, one.member.rank])
        results = []
        for length in lengths:
            registered = rng.integers(2, size=2) > seed % 2  # all, or some here and some there
            source = one.array(length, dtype, registered[0])
            source[:] = (rng.standard_normal(length) * 100).astype(dtype)
            before, out = source.copy(), one.array(length, dtype, registered[1])
            all_reduce_of(one, source, out)
            assert source.tobytes() == before.tobytes()
            results.append(out.tobytes())
        return results

    with ranks(size) as of, ThreadPoolExecutor(size) as pool:
        results = list(pool.map(work, of, timeout=30))
    assert all(result == results[0] for result in results)


def test_ranks_in_different_operations_are_told() -> None:
    with ranks(2) as of, ThreadPoolExecutor(2) as pool:
        calls = [Call(Kind.ALL_GATHER, 1, kind, *of[0].pair(9, 18), 9) for kind in (1, 2)]
        both = [pool.submit(one.operations.run, call) for one, call in zip(of, calls, strict=True)]
        for future in both:
            with pytest.raises(OutOfStep):
                future.result(10)


def test_all_to_all_tells_a_rank_that_sends_another_number() -> None:
    with ranks(2) as of, ThreadPoolExecutor(2) as pool:
        counts = [((1, 8), (1, 2)), ((3, 6), (8, 6))]  # rank 1 sends 3 to rank 0, which expects 2
        calls = [
            Call(Kind.ALL_TO_ALL, 1, 1, *of[0].pair(9, sum(taken)), 0, sends=given, receives=taken)
            for given, taken in counts
        ]
        both = [pool.submit(one.operations.run, call) for one, call in zip(of, calls, strict=True)]
        with pytest.raises(OutOfStep, match="rank 1 sends 3 elements to rank 0, which expects 2"):
            both[0].result(10)
        of[0].operations.end()
        both[1].exception(10)


def test_a_lost_process_is_noticed_while_others_sleep() -> None:
    with ranks(2) as of, ThreadPoolExecutor(1) as pool:
        source, out = of[0].pair(9, 9)
        future = pool.submit(all_reduce_of, of[0], source, out)
        while not of[0].alive.awaited:
            assert not future.done()
        of[0].operations.on_lost(1)
        with pytest.raises(LostPeer) as lost:
            future.result(10)
        assert lost.value.rank == 1


def held() -> tuple[int, int, int]:
    """File descriptors, threads and shared mappings of this process."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().count("memfd:p2p")
    return len(os.listdir("/proc/self/fd")), threading.active_count(), maps


def test_nothing_is_left_of_a_thousand_aborted_operations() -> None:
    rng = random.Random(5)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: held(), range(2)))  # both threads are there
        before = held()
        for number in range(500):
            with ranks(2, number) as of:
                futures = []
                for one in of:
                    source, out = one.pair(2000, 2000, registered=rng.random() < 0.5)
                    futures.append(pool.submit(all_reduce_of, one, source, out))
                for _ in range(rng.choice([0, 0, 100, 3000])):
                    pass
                for one in of:
                    one.alive.over = True
                    one.operations.interrupt()
                for future in futures:
                    assert isinstance(future.exception(10), Aborted | None)
                del futures, source, out, one, future
        after = held()
    assert after == before
