"""Averages that survive garbage: against plain definitions, and against liars of every kind."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectives import aggregate
from collectives.aggregate import COLUMNS, FAR, needed


def rows(count: int, values: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    made = [random.standard_normal(values) for _ in range(count)]
    return [(row * 10.0 ** random.integers(-3, 3, values)).astype(np.float32) for row in made]


def averaged(function, given_rows, *args) -> np.ndarray:
    out = np.empty_like(given_rows[0])
    before = [row.copy() for row in given_rows]
    function(given_rows, *args, out)
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(before, given_rows, strict=True)
    )
    return out


@pytest.mark.parametrize("count", range(10))
def test_the_network_sorts_whatever_comes(count: int) -> None:
    """0-1 principle (Knuth 5.3.4): what sorts every sequence of zeros and ones sorts everything."""
    network = list(aggregate._comparators(count))
    for bits in product((0, 1), repeat=count):
        values = list(bits)
        for i, j in network:
            assert i < j
            values[i], values[j] = min(values[i], values[j]), max(values[i], values[j])
        assert values == sorted(bits)


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("values", [0, 1, 5, COLUMNS, COLUMNS + 1])
def test_median_is_the_middle_value(count: int, values: int) -> None:
    given_rows = rows(count, values)
    expected = np.median(np.stack(given_rows).astype(np.float64), axis=0).astype(np.float32)
    assert np.array_equal(averaged(aggregate.median, given_rows), expected)


@pytest.mark.parametrize("faulty", range(4))
@pytest.mark.parametrize("values", [1, COLUMNS + 3])
def test_trimmed_mean_is_the_mean_of_what_is_left(faulty: int, values: int) -> None:
    given_rows, weights = rows(9, values), [5.0, 5, 4, 5, 0, 3, 5, 1, 2]
    stacked = np.stack(given_rows).astype(np.float64)
    order = np.argsort(stacked, axis=0, kind="stable")[faulty : 9 - faulty]
    kept, by = np.take_along_axis(stacked, order, 0), np.array(weights)[order]
    expected = (kept * by).sum(axis=0) / by.sum(axis=0)
    got = averaged(aggregate.trimmed_mean, given_rows, weights, faulty)
    assert np.allclose(got, expected, rtol=1e-6, atol=0)


def test_the_mean_is_weighted_by_samples() -> None:
    two = [np.full(3, 1, np.float32), np.full(3, 5, np.float32)]
    assert averaged(aggregate.mean, two, [30, 10]).tolist() == [2, 2, 2]
    assert averaged(aggregate.mean, two, [0, 10]).tolist() == [5, 5, 5]


def test_what_is_trimmed_down_to_the_weightless_has_no_say() -> None:
    three = [np.full(2, value, np.float32) for value in (1, 2, 3)]
    assert averaged(aggregate.trimmed_mean, three, [1, 0, 1], 1).tolist() == [0, 0]


@pytest.mark.parametrize(("weights", "faulty"), [([1, 1], 1), ([0, 0], 0), ([-1, 2], 0), ([], 0)])
def test_nothing_to_average_is_said(weights: list[float], faulty: int) -> None:
    some = [np.zeros(2, np.float32)] * len(weights)
    with pytest.raises(ValueError, match="average"):
        aggregate.trimmed_mean(some, weights, faulty, np.zeros(2, np.float32))


def test_rows_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="do not make an average"):
        aggregate.median([np.zeros(2), np.zeros(3)], np.zeros(2))


GARBAGE = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([3.4e38, -3.4e38, 1e-45, 0.0, -0.0]),
)


@given(
    faulty=st.integers(1, 4),
    more=st.integers(0, 1),
    data=st.data(),
    rule=st.sampled_from(["median", "trimmed"]),
)
def test_garbage_never_leaves_the_range_of_the_honest(
    faulty: int, more: int, data: st.DataObject, rule: str
) -> None:
    """The bound n > 2f: each value lies between two honest ones, whoever has which weight."""
    count = needed("median", faulty) + more
    given_rows = rows(count, 4, seed=data.draw(st.integers(0, 1000)))
    liars = data.draw(st.permutations(range(count)))[:faulty]
    for liar in liars:
        given_rows[liar] = np.array(data.draw(st.lists(GARBAGE, min_size=4, max_size=4)), "f4")
    if rule == "median":
        got = averaged(aggregate.median, given_rows)
    else:
        weights = [100.0 if index in liars else 1.0 for index in range(count)]
        got = averaged(aggregate.trimmed_mean, given_rows, weights, faulty)
    honest = np.stack([row for index, row in enumerate(given_rows) if index not in liars])
    slack = np.abs(honest).max(axis=0) * 1e-6  # of the mean's rounding to float32
    assert (honest.min(axis=0) - slack <= got).all()
    assert (got <= honest.max(axis=0) + slack).all()


@given(st.integers(1, 6), st.lists(st.integers(0, 40), max_size=4), st.integers(0, 1000))
def test_separations_of_segments_add_up(count: int, cuts: list[int], seed: int) -> None:
    given_rows = rows(count, 40, seed)
    edges = [0, *sorted(cuts), 40]
    parts = [
        aggregate.separations([row[lo:hi] for row in given_rows]) for lo, hi in pairwise(edges)
    ]
    stacked = np.stack(given_rows).astype(np.float64)
    expected = np.square(stacked[:, None] - stacked[None]).sum(axis=2)
    np.fill_diagonal(expected, np.square(stacked).sum(axis=1))
    assert np.allclose(sum(parts), expected, rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_contribution_with_one_bad_number_is_garbage(bad: float) -> None:
    given_rows = rows(4, COLUMNS + 2)
    given_rows[2][COLUMNS] = bad
    assert aggregate.finite(aggregate.separations(given_rows)) == [0, 1, 3]
    largest = [np.full(3, 3.4e38, np.float32)] * 2
    assert aggregate.finite(aggregate.separations(largest)) == [0, 1]


def test_krum_is_the_definition_of_its_paper() -> None:
    given_rows = rows(7, 30, seed=4)
    apart = aggregate.separations(given_rows)
    scores = []
    for i, row in enumerate(given_rows):
        far = sorted(
            float(np.square(row.astype("f8") - other).sum())
            for j, other in enumerate(given_rows)
            if j != i
        )
        scores.append(sum(far[: 7 - 2 - 2]))
    best = sorted(range(7), key=scores.__getitem__)
    assert aggregate.krum(apart, faulty=2, keep=1) == best[:1]
    assert aggregate.krum(apart, faulty=2) == sorted(best[:3])


@pytest.mark.parametrize("faulty", [1, 2, 3])
def test_krum_leaves_out_those_who_stand_together_elsewhere(faulty: int) -> None:
    count = needed("krum", faulty)
    random = np.random.default_rng(faulty)
    for liars in combinations(range(count), faulty):
        given_rows = [random.standard_normal(50) for _ in range(count)]
        for liar in liars:
            given_rows[liar] = np.full(50, 30.0)
        chosen = aggregate.krum(aggregate.separations(given_rows), faulty)
        assert len(chosen) == count - faulty - 2
        assert not set(chosen) & set(liars)


def test_krum_says_how_many_it_needs() -> None:
    with pytest.raises(ValueError, match="krum with 1 faulty needs 5, not 4"):
        aggregate.krum(np.zeros((4, 4)), faulty=1)
    with pytest.raises(ValueError, match="keeps 1 to 2, not 3"):
        aggregate.krum(np.zeros((5, 5)), faulty=1, keep=3)


def noise_of(samples: int, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(2_000) / np.sqrt(samples) + 0.05


LIES = {
    "large noise": lambda honest, random: 10 * random.standard_normal(2_000),
    "turned round and blown up": lambda honest, random: -20 * honest,
    "far too large": lambda honest, random: 1e30 * honest,
    "not a number": lambda honest, random: honest * np.nan,
    "one infinite value": lambda honest, random: np.append(honest[1:], np.inf),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("count", "faulty"), [(3, 1), (4, 1), (5, 2), (9, 4)])
def test_liars_are_named_and_nobody_else(lie: str, count: int, faulty: int) -> None:
    random = np.random.default_rng(count)
    samples = [20, 5, 10, 1, 40, 20, 7, 8, 9][:count]
    for seed in range(5):
        liars = sorted(np.random.default_rng(seed).permutation(count)[:faulty].tolist())
        given_rows = [noise_of(number, random) for number in samples]
        for liar in liars:
            given_rows[liar] = LIES[lie](given_rows[liar], random)
        odd = aggregate.oddness(aggregate.separations(given_rows), samples)
        assert aggregate.suspicious(odd) == liars


@pytest.mark.parametrize(
    ("why", "given_rows", "weights"),
    [
        ("all the same", [np.ones(5)] * 4, [1.0] * 4),
        ("all zero", [np.zeros(5)] * 4, [1.0] * 4),
        ("rounding only", [np.ones(5), np.ones(5), np.ones(5) * (1 + 1e-8)], [1.0] * 3),
        ("two that differ", [np.ones(5), np.ones(5) * 1e9], [1.0] * 2),
        ("alone", [np.ones(5)], [1.0]),
        ("no samples", [*rows(3, 50), np.zeros(50, "f4")], [4.0, 4.0, 4.0, 0.0]),
        ("few samples", [np.full(4, v) for v in (1.0, 1.1, 0.9, 2.0)], [99.0, 99.0, 99.0, 1.0]),
    ],
)
def test_nobody_is_named_without_ground(why: str, given_rows, weights: list[float]) -> None:
    odd = aggregate.oddness(aggregate.separations(given_rows), weights)
    assert aggregate.suspicious(odd) == [], why
    assert FAR > 1


def test_the_same_values_in_the_same_order_give_the_same_bits() -> None:
    given_rows = rows(5, COLUMNS * 2 + 7)
    given_rows[0][:9], given_rows[1][:9] = 0.0, -0.0
    aligned_elsewhere = []
    for row in given_rows:
        raw = np.zeros(len(row) + 3, np.float32)
        raw[3:] = row
        aligned_elsewhere.append(raw[3:])
    for function, args in (
        (aggregate.median, ()),
        (aggregate.trimmed_mean, ([3.0, 1, 2, 4, 5], 1)),
    ):
        first = averaged(function, given_rows, *args)
        assert averaged(function, aligned_elsewhere, *args).tobytes() == first.tobytes()
