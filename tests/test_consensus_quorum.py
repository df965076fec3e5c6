"""Majorities against a definition that is too slow and too plain to be wrong."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.quorum import (
    INFINITE_INDEX,
    JointConfig,
    VoteResult,
    majority_committed_index,
    majority_vote_result,
)

IDS = "abcdefg"
voters = st.frozensets(st.sampled_from(IDS))
acked = st.dictionaries(st.sampled_from(IDS), st.integers(0, 9))
ballots = st.dictionaries(st.sampled_from(IDS), st.booleans())


def majorities(members: frozenset[str]) -> list[tuple[str, ...]]:
    """Every set of members just large enough."""
    return list(combinations(sorted(members), len(members) // 2 + 1))


@given(voters, acked)
def test_committed_is_the_best_index_that_some_majority_holds(
    members: frozenset[str], indexes: dict[str, int]
) -> None:
    expected = max(
        (min(indexes.get(m, 0) for m in majority) for majority in majorities(members)),
        default=INFINITE_INDEX,
    )
    assert majority_committed_index(members, indexes) == expected


@given(voters, ballots)
def test_a_vote_is_decided_exactly_when_no_missing_ballot_could_change_it(
    members: frozenset[str], votes: dict[str, bool]
) -> None:
    missing = members - votes.keys()
    outcomes = {
        majority_vote_result(members, votes | dict.fromkeys(missing, rest))
        for rest in (True, False)
    }
    result = majority_vote_result(members, votes)
    assert VoteResult.PENDING not in outcomes
    assert outcomes == {result} or (len(outcomes) == 2 and result is VoteResult.PENDING)


@given(voters, voters, acked)
def test_joint_commit_needs_both_halves(
    one: frozenset[str], two: frozenset[str], indexes: dict[str, int]
) -> None:
    expected = min(majority_committed_index(one, indexes), majority_committed_index(two, indexes))
    assert JointConfig(one, two).committed_index(indexes) == expected
    assert JointConfig(two, one).committed_index(indexes) == expected
    assert JointConfig(one).committed_index(indexes) == majority_committed_index(one, indexes)


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        ({"a": True, "b": True}, VoteResult.PENDING),
        ({"a": True, "b": True, "c": True}, VoteResult.WON),
        ({"a": False, "b": False}, VoteResult.LOST),
        ({"b": False, "c": False, "a": True}, VoteResult.LOST),
    ],
)
def test_joint_vote(votes: dict[str, bool], result: VoteResult) -> None:
    assert JointConfig(frozenset("ab"), frozenset("bc")).vote_result(votes) is result


def test_two_majorities_of_neighbouring_configurations_meet() -> None:
    for size in range(1, 6):
        old = frozenset(IDS[:size])
        for new in (old | {IDS[size]}, *(old - {gone} for gone in old if size > 1)):
            assert all(set(a) & set(b) for a in majorities(old) for b in majorities(new))
