"""Direct exchange without sockets: every collective, 1 to 9 ranks, lost or aborted at any frame."""

import itertools
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectives import exchange
from collectives.call import Array, Call, Kind
from collectives.errors import Aborted
from collectives.exchange import Connect, Exchange
from collectives.links import Links
from collectives.plan import Act, Machine, OutOfOrder, make_plan
from collectives.reductions import Reduction
from tests.memory_links import Died, Hub, MemoryLinks

ONE_HOP_BYTES_MAX = 128
COMBINING = (Kind.ALL_REDUCE, Kind.REDUCE_SCATTER, Kind.REDUCE)
NUMBERS = ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short arrays have many chunks, and both ways are taken."""
    monkeypatch.setattr(exchange, "CHUNK_BYTES_MIN", 24)
    monkeypatch.setattr(exchange, "CHUNK_BYTES_MAX", 64)
    monkeypatch.setattr(exchange, "ONE_HOP_BYTES_MAX", ONE_HOP_BYTES_MAX)


class Case:
    """One collective on all ranks: what each passes in, and what each must get."""

    def __init__(
        self,
        kind: Kind,
        size: int,
        n: int,
        *,
        number: str = "int64",
        op: str = "sum",
        root: int = 0,
    ) -> None:
        self.kind, self.size, self.n, self.root = kind, size, n, root
        dtype = np.dtype(np.uint16 if number == "bfloat16" else number)
        self.reduction = Reduction(op, dtype, number) if kind in COMBINING else None
        parts = size if kind in (Kind.REDUCE_SCATTER, Kind.SCATTER) else 1
        whole = [self._values(rank, n * parts, dtype, number) for rank in range(size)]
        self.counts = [[(i * 7 + j * 3 + n) % 40 for j in range(size)] for i in range(size)]
        if kind is Kind.ALL_TO_ALL:
            whole = [self._values(r, sum(self.counts[r]), dtype, number) for r in range(size)]
        self.sources = whole
        if kind in (Kind.SCATTER, Kind.BROADCAST):
            self.sources = [w if r == root else w[:0] for r, w in enumerate(whole)]
        self.before = [source.copy() for source in self.sources]
        self.expected = [self._expect(rank) for rank in range(size)]

    def _values(self, rank: int, length: int, dtype: Any, number: str) -> Array:
        rng = np.random.default_rng(rank)
        if number == "bfloat16":
            halves = rng.standard_normal(length).astype(np.float32).view(np.uint32) >> 16
            return halves.astype(np.uint16)
        if dtype.kind == "f":
            return rng.standard_normal(length).astype(dtype)
        return rng.integers(0, 100, length).astype(dtype)

    def _expect(self, rank: int) -> Array:
        n, sources, at_root = self.n, self.sources, rank == self.root
        nothing = sources[0][:0]
        if self.reduction is not None:
            total = np.empty_like(sources[0])
            self.reduction.fold(sources, total)
            share = total[rank * n : (rank + 1) * n]
            everybody = {Kind.REDUCE_SCATTER: share, Kind.ALL_REDUCE: total}
            return everybody.get(self.kind, total if at_root else nothing)
        match self.kind:
            case Kind.ALL_GATHER:
                return np.concatenate(sources)
            case Kind.GATHER:
                return np.concatenate(sources) if at_root else nothing
            case Kind.SCATTER:
                return sources[self.root][rank * n : (rank + 1) * n]
            case Kind.BROADCAST:
                return nothing if at_root else sources[self.root]
        cut = [list(itertools.accumulate(row, initial=0)) for row in self.counts]
        return np.concatenate([s[c[rank] : c[rank + 1]] for s, c in zip(sources, cut, strict=True)])

    def call(self, rank: int, source: Array, out: Array, sequence: int = 1) -> Call:
        sends = tuple(self.counts[rank]) if self.kind is Kind.ALL_TO_ALL else ()
        receives = tuple(row[rank] for row in self.counts) if sends else ()
        flat = (source, out, 0 if sends else self.n, self.reduction, self.root, sends, receives)
        return Call(self.kind, sequence, 77, *flat)

    def run(self, hub: Hub, calls: int = 1, *, in_place: bool = False) -> list[Any]:
        """Every rank's result, or why it has none."""

        def act(links: MemoryLinks) -> Array:
            source = self.sources[links.rank]
            algorithm = Exchange(cast(Links, links), cast(Connect, links.connect))
            for sequence in range(1, calls + 1):
                out = source.copy() if in_place else np.empty_like(self.expected[links.rank])
                given = out if in_place else source
                algorithm.run(self.call(links.rank, given, out, sequence))
            return out

        return hub.run(act)

    def check(self, results: list[Any]) -> None:
        """Same bits as expected, or a clean error; sources as they were."""
        for rank, result in enumerate(results):
            assert (self.sources[rank] == self.before[rank]).all(), f"source of {rank} changed"
            if not isinstance(result, Aborted | Died):
                assert result.tobytes() == self.expected[rank].tobytes(), f"rank {rank} is wrong"


cases = st.builds(
    Case,
    st.sampled_from(Kind),
    st.integers(1, 9),
    st.integers(0, 150),
    number=st.sampled_from(NUMBERS),
    op=st.sampled_from(["sum", "max", "min", "product"]),
)


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 5), st.integers(1, 3))
def test_every_rank_gets_its_result(case: Case, room: int, calls: int) -> None:
    results = case.run(Hub(case.size, room), calls)
    case.check(results)
    assert not [r for r in results if isinstance(r, Exception)]


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 5), st.integers(0, 60), st.booleans())
def test_an_end_at_any_frame_leaves_right_results_or_clean_errors(
    case: Case, room: int, cut: int, lose: bool
) -> None:
    hub = Hub(case.size, room, cut, lose=cut % case.size if lose else None)
    case.check(case.run(hub, calls=2))


@pytest.mark.parametrize("number", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [10, 120])
def test_values_are_added_in_rank_order_whichever_way_they_go(number: str, n: int) -> None:
    case = Case(Kind.ALL_REDUCE, 7, n, number=number)
    case.check(results := case.run(Hub(7, 3)))
    assert not [r for r in results if isinstance(r, Exception)]


@pytest.mark.parametrize("size", range(2, 6))
@pytest.mark.parametrize("n", [10, 90])
def test_a_rank_lost_at_every_frame_of_an_all_reduce(size: int, n: int) -> None:
    case = Case(Kind.ALL_REDUCE, size, n)
    whole = Hub(size, 2)
    case.check(case.run(whole))
    for cut in range(0, whole.sent, 3):
        case.check(case.run(Hub(size, 2, cut, lose=cut % size)))


@pytest.mark.parametrize("root", range(4))
@pytest.mark.parametrize("kind", [Kind.REDUCE, Kind.GATHER, Kind.SCATTER, Kind.BROADCAST])
@pytest.mark.parametrize("n", [3, 100])
def test_any_rank_can_be_the_root(kind: Kind, root: int, n: int) -> None:
    case = Case(kind, 4, n, root=root)
    case.check(results := case.run(Hub(4, 2)))
    assert not [r for r in results if isinstance(r, Exception)]


@pytest.mark.parametrize("kind", [Kind.ALL_REDUCE, Kind.REDUCE])
@pytest.mark.parametrize("number", ["int64", "bfloat16"])
@pytest.mark.parametrize("n", [10, 120])
def test_in_place_gives_the_same(kind: Kind, number: str, n: int) -> None:
    for size in (1, 2, 3, 5):
        case = Case(kind, size, n, number=number)
        results = case.run(Hub(size, 2), in_place=True)
        ranks = range(size) if kind is Kind.ALL_REDUCE else [case.root]
        for rank in ranks:
            assert results[rank].tobytes() == case.expected[rank].tobytes(), f"{size=} {rank=}"


@pytest.mark.parametrize("size", range(2, 10))
def test_two_hops_send_the_least_there_is(size: int) -> None:
    """Patarasuk & Yuan 2009: 2 (N-1)/N of the data per rank."""
    n = 8 * 9 * 5 * 7  # divisible by every size
    case = Case(Kind.ALL_REDUCE, size, n)
    for rank in range(size):
        call = case.call(rank, case.sources[rank], case.sources[rank])
        machine = Machine(make_plan(call, rank, size, hops=2), rank, 100)
        first = sum(send.stop - send.start for send in machine.start())
        chunks = -(-n // size // 100)
        second = sum(s.stop - s.start for i in range(chunks) for s in machine.onward(i))
        assert first + second == 2 * (size - 1) * n // size


@pytest.mark.parametrize("wrong", [(1, 0, 1), (1, 1, 1), (1, 7, 0), (2, 0, 2**31), (0, 0, 0)])
def test_a_chunk_out_of_turn_is_refused_and_changes_nothing(wrong: tuple[int, int, int]) -> None:
    case = Case(Kind.ALL_REDUCE, 3, 30)
    machine = Machine(make_plan(case.call(0, *case.sources[:2]), 0, 3, hops=2), 0, 4)
    awaited = dict(machine.awaited)
    with pytest.raises(OutOfOrder):
        machine.expect(*wrong)
    assert machine.awaited == awaited
    assert machine.expect(1, 0, 0) == machine.expect(2, 0, 0) == (0, 4)
    assert machine.on_chunk(1, 0, 0) is Act.HOLD
    with pytest.raises(OutOfOrder):
        machine.expect(1, 0, 0)
    assert machine.on_chunk(2, 0, 0) is Act.COMBINE
