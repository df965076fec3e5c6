"""Who serves and backs what, and what changes hands when members change."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2p.training.strategies.parameter_server_map import (
    Handover,
    Partition,
    handovers,
    newest,
    place,
)

SIZES = st.lists(st.integers(0, 10_000), min_size=1, max_size=30)
HOSTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=9)


def keepers_of(partitions: list[Partition]) -> dict[int, tuple[int, ...]]:
    return {number: p.keepers for p in partitions for number in p.parameters}


@settings(max_examples=25)
@given(SIZES, HOSTS)
def test_every_parameter_has_one_server_and_a_backup_elsewhere(
    sizes: list[int], hosts: list[str]
) -> None:
    partitions = place(sizes, hosts)
    assert sorted(n for p in partitions for n in p.parameters) == list(range(len(sizes)))
    assert len({p.keepers for p in partitions}) == len(partitions)
    served = [0] * len(hosts)
    for partition in partitions:
        served[partition.server] += sum(sizes[n] for n in partition.parameters)
        assert (partition.backup is None) == (len(hosts) == 1)
        assert partition.backup != partition.server
        if len(set(hosts)) > 1 and partition.backup is not None:
            assert hosts[partition.backup] != hosts[partition.server]
    assert max(served) <= sum(sizes) / len(hosts) + max(sizes)


def test_two_hosts_balanced_and_crossed() -> None:
    assert place([8, 4, 4, 2, 2], ["a", "a", "b"]) == [
        Partition(0, 2, (0,)),
        Partition(1, 2, (1, 3)),
        Partition(2, 0, (2, 4)),
    ]


@settings(max_examples=25)
@given(SIZES, HOSTS, st.data())
def test_the_backup_is_promoted_as_far_as_the_load_allows(
    sizes: list[int], hosts: list[str], data: st.DataObject
) -> None:
    before = keepers_of(place(sizes, hosts))
    assume(len(hosts) > 1)
    dead = data.draw(st.integers(0, len(hosts) - 1))
    rank_now = {rank: rank - (rank > dead) for rank in range(len(hosts)) if rank != dead}
    left = [hosts[rank] for rank in rank_now]
    alive = [[rank_now[r] for r in before[n] if r != dead] for n in range(len(sizes))]
    assert all(alive)
    after = place(sizes, left, alive)
    fresh = place(sizes, left)

    def served(partitions: list[Partition], rank: int) -> int:
        return sum(sizes[n] for p in partitions if p.server == rank for n in p.parameters)

    bound = max(served(fresh, rank) for rank in range(len(left)))
    assert max(served(after, rank) for rank in range(len(left))) <= max(
        bound, sum(sizes) / len(left) + max(sizes)
    )
    needs = [keepers_of(after)[n] for n in range(len(sizes))]
    moved, lost = handovers(alive, needs)
    assert not lost
    assert all(h.giver in alive[n] for h in moved for n in h.parameters)
    for number, (keepers, (server, *_)) in enumerate(zip(alive, needs, strict=True)):
        first = keepers[0]
        assert server == first or served(after, first) + sizes[number] > bound


def test_nothing_moves_when_nothing_changes() -> None:
    sizes, hosts = [5, 9, 1, 1, 7, 3, 3], ["a", "b", "b", "c"]
    first = place(sizes, hosts)
    keepers = [keepers_of(first)[n] for n in range(len(sizes))]
    assert place(sizes, hosts, keepers) == first
    assert handovers(keepers, keepers) == ([], [])


def test_what_is_handed_over() -> None:
    keepers = [[0, 1], [1], [], [0, 1], [2]]
    needs = [[0, 2], [0, 2], [0], [1], [0, 1, 2]]
    assert handovers(keepers, needs) == (
        [Handover(0, (2,), (0,)), Handover(1, (0, 2), (1,)), Handover(2, (0, 1), (4,))],
        [2],
    )


def test_the_newest_version_that_is_kept_counts() -> None:
    versions = [[3, 4, 9], [4, 3, 9], [4, 4, 9]]
    assert newest(versions, [{0, 1}, {0, 1}, set()]) == ([4, 4, -1], [[1], [0], []])
