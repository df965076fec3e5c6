"""Many seeds at once are those that numpy's SeedSequence gives one by one."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.training import order
from p2p.training.seeds import AT_ONCE, StepSeeds, seeds_of

SEEDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 7, 2**32 - 1, 2**32, 2**63])
WORDS = st.integers(0, 2**32 - 5)


@given(SEEDS, st.integers(1, 5), WORDS, WORDS)
def test_seeds_are_those_of_one_by_one(seed: int, purpose: int, step: int, number: int) -> None:
    steps, numbers = range(step, step + 3), range(number, number + 4)
    assert seeds_of(seed, purpose, steps, numbers).tolist() == [
        [order.seed_of(seed, purpose, step, number) for number in numbers] for step in steps
    ]
    alone = [[order.seed_of(seed, purpose, step)] for step in steps]
    assert seeds_of(seed, purpose, steps, None).tolist() == alone


def test_steps_and_shards_may_be_asked_for_in_any_order() -> None:
    for shards in (1, 6, AT_ONCE - 1, 3 * AT_ONCE):
        seeds = StepSeeds(7, order.SHARD, shards)
        for step in (0, 1, AT_ONCE, 10**6, 2):
            for shard in {0, shards // 2, shards - 1}:
                assert seeds.of(step, shard) == order.seed_of(7, order.SHARD, step, shard)
    update = StepSeeds(7, order.UPDATE)
    assert [update.of(step) for step in (0, 511, 512)] == [
        order.seed_of(7, order.UPDATE, step) for step in (0, 511, 512)
    ]
