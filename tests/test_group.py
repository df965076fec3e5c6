"""A group's operations over every kind of link, threads standing for processes."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from collectives import operations
from collectives.exchange import Exchange
from collectives.plane import Aborted, CurveKeys, DataPlane, Group, LostPeer, OutOfStep

KEYS = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
LINKS = ["shm", "ipc", "tcp", "curve"]
SIZE = 3

Act = Callable[[Group], Any]
Together = Callable[[str, Act], list[Any]]


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Callable[..., list[DataPlane]]]:
    made: list[DataPlane] = []

    def make(count: int, **options: bool) -> list[DataPlane]:
        folder = str(tmp_path / "ipc")
        made.extend(DataPlane("127.0.0.1", folder, KEYS, **options) for _ in range(count))
        return made[-count:]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def together(planes: Callable[..., list[DataPlane]], monkeypatch: pytest.MonkeyPatch) -> Together:
    """Three ranks in one generation over links of this kind; what each returned, by rank."""

    def run(link: str, act: Act) -> list[Any]:
        if link != "shm":
            monkeypatch.setattr(operations, "ALGORITHMS", [Exchange])
        of = planes(SIZE, plain_tcp=link == "tcp")
        members = [one.endpoints for one in of]
        if link in ("tcp", "curve"):
            members = [replace(member, host="another host") for member in members]
        with ThreadPoolExecutor(SIZE) as pool:
            futures = [
                pool.submit(lambda r, p: act(p.enter("job", 1, r, members)), rank, one)
                for rank, one in enumerate(of)
            ]
            try:
                return [future.result(30) for future in futures]
            except BaseException:
                for one in of:
                    one.abort(2)  # else the pool waits for ever
                raise

    return run


def mine(group: Group, length: int, dtype: str = "f4") -> Any:
    return values(group.rank, length, dtype)


def values(rank: int, length: int, dtype: str = "f4") -> Any:
    return np.random.default_rng(rank).integers(1, 9, length).astype(dtype)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("n", [7, 300_000])
def test_arrays_go_where_they_should(together: Together, link: str, n: int) -> None:
    every = [values(rank, 3 * n) for rank in range(SIZE)]

    def act(group: Group) -> None:
        rank, source = group.rank, every[group.rank]
        out, small = np.empty_like(source), np.empty(n, "f4")
        at_root = rank == 1
        group.all_gather_arrays(source[:n], out)
        assert (out == np.concatenate([e[:n] for e in every])).all()
        group.gather(source[:n], out if at_root else None, 1)
        group.scatter(source if at_root else None, small, 1)
        assert (small == every[1][rank * n : (rank + 1) * n]).all()
        group.all_to_all(source, out)
        assert (out == np.concatenate([e[rank * n : (rank + 1) * n] for e in every])).all()
        given = (every[2] if rank == 2 else np.empty_like(source)).copy()
        group.broadcast(given, 2)
        assert (given == every[2]).all()
        group.barrier()

    together(link, act)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("n", [7, 300_000])
def test_reductions_of_every_kind(together: Together, link: str, n: int) -> None:
    every = [values(rank, 3 * n) for rank in range(SIZE)]
    total = every[0] + every[1] + every[2]

    def act(group: Group) -> bytes:
        rank, source = group.rank, every[group.rank].copy()
        out, small = np.empty_like(source), np.empty(n, "f4")
        group.all_reduce(source, out, "mean")
        assert (out == total / np.float32(3)).all()
        group.reduce_scatter(source, small, "sum")
        assert (small == total[rank * n : (rank + 1) * n]).all()
        group.reduce(source, out if rank == 0 else None, "max", 0)
        assert rank or (out == np.maximum.reduce(every)).all()
        assert (source == every[rank]).all()
        group.all_reduce(source, source, "min")  # in place
        assert (source == np.minimum.reduce(every)).all()
        return source.tobytes()

    assert len(set(together(link, act))) == 1


@pytest.mark.parametrize("link", ["shm", "ipc"])
@pytest.mark.parametrize("op", ["sum", "product", "band", "bor", "bxor"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "i8", "bool"])
def test_integers(together: Together, link: str, op: str, dtype: str) -> None:
    ufunc = {"sum": np.add, "product": np.multiply, "band": np.bitwise_and}
    ufunc |= {"bor": np.bitwise_or, "bxor": np.bitwise_xor}
    every = [values(rank, 100, dtype) for rank in range(SIZE)]
    expected = ufunc[op].reduce(every, dtype=dtype)

    def act(group: Group) -> bool:
        out = np.empty(100, dtype)
        group.all_reduce(mine(group, 100, dtype), out, op)
        return bool((out == expected).all())

    assert together(link, act) == [True] * SIZE


@pytest.mark.parametrize("link", ["shm", "ipc"])
@pytest.mark.parametrize(("number", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_types_are_rounded_once(together: Together, link: str, number: str, bits: int) -> None:
    wide = [np.random.default_rng(r).standard_normal(1000).astype("f4") for r in range(SIZE)]
    halves = [narrow(w, number) for w in wide]
    exact = sum(widen(half, number).astype("f8") for half in halves)

    def act(group: Group) -> bytes:
        out = np.empty_like(halves[0])
        group.all_reduce(halves[group.rank], out, "sum", number)
        error = np.abs(widen(out, number) - exact)
        assert (error <= np.abs(exact) * 2.0**-bits + 2.0**-20).all()
        return out.tobytes()

    assert len(set(together(link, act))) == 1


def narrow(values: Any, number: str) -> Any:
    if number == "float16":
        return values.astype(np.float16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def widen(values: Any, number: str) -> Any:
    if number == "float16":
        return values.astype("f4")
    return (values.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("link", LINKS)
def test_messages_by_tag_and_from_whoever_sends_first(together: Together, link: str) -> None:
    def act(group: Group) -> Any:
        if group.rank:
            group.send(0, b"second tag", tag=2)
            group.send(0, bytes(2_000_000), tag=1)
            group.send(0, b"again", tag=1)
            group.barrier()
            return None
        came = []
        while len(came) < 2:
            source = group.probe(tag=1)
            if source is None or source in came:
                source = next((r for r in (1, 2) if r not in came and group.probe(1, r)), None)
            if source is None:
                group.wait()
            else:
                came.append(source)
                assert len(group.receive(source, tag=1)) == 2_000_000
        for source in (1, 2):
            assert bytes(group.receive(source, tag=1)) == b"again"
            assert bytes(group.receive(source, tag=2)) == b"second tag"
        assert group.probe(tag=1) is None
        group.barrier()
        return sorted(came)

    assert together(link, act)[0] == [1, 2]


def test_wake_ends_a_wait(planes: Callable[..., list[DataPlane]]) -> None:
    first, second = planes(2)
    group = first.enter("job", 1, 0, [first.endpoints, second.endpoints])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(group.wait)
        first.wake()
        waiting.result(5)


@pytest.mark.parametrize("link", ["shm", "ipc"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda g: g.barrier(), lambda g: g.broadcast(np.zeros(9), 0)),
        (lambda g: g.broadcast(np.zeros(9), 0), lambda g: g.broadcast(np.zeros(8), 0)),
        (lambda g: g.all_reduce(*np.zeros((2, 9)), "sum"), lambda g: mean(g)),
    ],
)
def test_ranks_that_do_different_things_are_told(
    together: Together, link: str, one: Act, other: Act
) -> None:
    def act(group: Group) -> Any:
        try:
            (one if group.rank else other)(group)
            group.barrier()
        except Aborted as error:
            return type(error)
        return None

    told = together(link, act)
    assert OutOfStep in told
    assert None not in told


def mean(group: Group) -> None:
    group.all_reduce(np.zeros(9), np.empty(9), "mean")


# Those who leave.


def test_what_was_sent_before_leaving_still_comes(planes: Callable[..., list[DataPlane]]) -> None:
    stays, leaves = planes(2)
    members = [stays.endpoints, leaves.endpoints]
    group = stays.enter("job", 1, 0, members)
    going = leaves.enter("job", 1, 1, members)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: (going.send(0, bytes(3_000_000)), going.send(0, b"bye")))
        assert len(group.receive(1)) == 3_000_000
        done.result(5)
        leaves.close()
    assert bytes(group.receive(1)) == b"bye"
    with pytest.raises(LostPeer, match="rank 1 has left the generation") as lost:
        group.receive(1)
    assert lost.value.rank == 1
    with pytest.raises(Aborted):
        group.barrier()


def test_a_rank_that_fails_ends_the_others(planes: Callable[..., list[DataPlane]]) -> None:
    """It is aborted in an operation; nobody else is told but by its links."""
    of = planes(3)
    members = [one.endpoints for one in of]
    groups = [one.enter("job", 1, rank, members) for rank, one in enumerate(of)]
    with ThreadPoolExecutor(3) as pool:
        failing = pool.submit(groups[2].receive, 0)
        others = [pool.submit(group.all_gather, b"") for group in groups[:2]]
        of[2].abort(2)
        assert isinstance(failing.exception(5), Aborted)
        errors = [other.exception(5) for other in others]
        assert all(isinstance(error, LostPeer) for error in errors)
        assert 2 in [error.rank for error in errors if isinstance(error, LostPeer)]


def held(what: str) -> int:
    return len(os.listdir(f"/proc/self/{what}"))


@pytest.mark.parametrize("link", ["shm", "ipc"])
def test_a_thousand_aborted_collectives_leave_nothing_behind(
    planes: Callable[..., list[DataPlane]], link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if link != "shm":
        monkeypatch.setattr(operations, "ALGORITHMS", [Exchange])
    first, second = planes(2)
    members = [first.endpoints, second.endpoints]
    source = np.ones(100_000, np.float32)

    def aborted(generation: int) -> None:
        group = first.enter("job", generation, 0, members)
        started.set()
        with pytest.raises(Aborted):
            group.all_reduce(source, np.empty_like(source), "sum")

    started = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        for generation in range(1, 1001):
            if generation == 20:
                files, threads = held("fd"), held("task")
            started.clear()
            future = pool.submit(aborted, generation)
            assert started.wait(5)
            first.abort(generation + 1)
            future.result(5)
        assert held("task") <= threads
    deadline = time.monotonic() + 10
    while held("fd") > files + 3 and time.monotonic() < deadline:  # libzmq reaps sockets later
        time.sleep(0.01)
    assert held("fd") <= files + 3
    assert (source == 1).all()
