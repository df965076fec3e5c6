"""The data plane over real sockets: threads stand for processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from collectives.plane import Aborted, CurveKeys, DataPlane, Endpoints, Ring

KEYS = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
Planes = Callable[[int], list[DataPlane]]


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    made: list[DataPlane] = []

    def make(count: int) -> list[DataPlane]:
        made.extend(DataPlane("127.0.0.1", str(tmp_path / "ipc"), KEYS) for _ in range(count))
        return made[-count:]

    yield make
    for plane in made:
        plane.close()


def together(planes: list[DataPlane], generation: int, act: Callable[[Ring], Any]) -> list[Any]:
    members = [plane.endpoints for plane in planes]
    with ThreadPoolExecutor(len(planes)) as pool:
        futures = [
            pool.submit(lambda r, p: act(p.enter("job", generation, r, members)), rank, plane)
            for rank, plane in enumerate(planes)
        ]
        return [future.result(30) for future in futures]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 2, 1000, 1_000_003])
def test_all_reduce_sums(planes: Planes, size: int, length: int) -> None:
    def act(ring: Ring) -> Any:
        source = np.arange(length, dtype=np.int64) * (ring.rank + 1)
        before, out = source.copy(), np.full_like(source, -1)
        ring.all_reduce(source, out, "sum")
        assert (source == before).all()
        return out

    for out in together(planes(size), 1, act):
        assert (out == np.arange(length) * (size * (size + 1) // 2)).all()


def test_all_gather_and_direct(planes: Planes) -> None:
    state = bytes(range(256)) * 10_000

    def act(ring: Ring) -> Any:
        gathered = ring.all_gather(b"x" * ring.rank)
        if ring.rank == 0:
            ring.send(2, state)
        if ring.rank == 2:
            assert ring.receive(0) == state
        return gathered

    assert together(planes(3), 7, act) == [[b"", b"x", b"xx"]] * 3


def test_abort_ends_a_blocked_operation(planes: Planes) -> None:
    first, second = planes(2)
    members = [first.endpoints, second.endpoints]
    ring = first.enter("job", 3, 0, members)
    source = np.ones(10_000_000, np.float32)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ring.all_reduce, source, np.empty_like(source), "sum")
        first.abort(4)
        with pytest.raises(Aborted):
            future.result(5)


def test_endpoints_cross_the_wire(planes: Planes) -> None:
    (plane,) = planes(1)
    assert Endpoints.from_wire(plane.endpoints.to_wire()) == plane.endpoints
    with pytest.raises(ValueError, match="not the endpoints"):
        Endpoints.from_wire({"host": 1})
