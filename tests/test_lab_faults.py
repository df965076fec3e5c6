"""The same course's situations in which peers lose power, and those with a bad network."""

import pytest

from tests.lab import Lab


def seeded(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seed", range(count))


def test_all_one_or_the_leader_lose_power_and_what_was_agreed_stays() -> None:
    lab = Lab(3)
    keys = [lab.agree()]
    lab.crash(*lab.names)
    lab.restart()
    keys.append(lab.agree())
    lab.crash(lab.leader)
    keys.append(lab.agree(on=2))
    lab.restart()
    keys.append(lab.agree())
    lab.crash(lab.followers[0])
    keys.append(lab.agree(on=2))
    lab.restart()
    lab.agree()
    lab.all_have(*keys)


def test_power_cuts_roll_over_the_majorities() -> None:
    lab = Lab(5)
    keys = []
    for _ in range(5):
        keys.append(lab.agree())
        first, second, *rest = [lab.leader, *lab.followers]
        lab.crash(rest[0], rest[1])
        keys.append(lab.agree(on=3))
        lab.crash(first, second, rest[2])
        lab.restart(first, second, rest[2])
        keys.append(lab.agree(on=3))
        lab.restart(rest[0], rest[1])
    lab.agree()
    lab.all_have(*keys)


def test_a_cut_off_leader_and_a_follower_lose_power_and_come_back_with_a_stale_one() -> None:
    lab = Lab(3)
    keys = [lab.agree()]
    leader, (stale, other) = lab.leader, lab.followers
    lab.cut(stale)
    keys.append(lab.agree(on=2))
    lab.crash(leader, other)
    lab.heal()
    lab.restart(other)
    keys.append(lab.agree(on=2))
    lab.crash(other)
    lab.restart(leader)
    keys.append(lab.agree(on=2))
    lab.restart(other)
    keys.append(lab.agree())
    lab.all_have(*keys)


@seeded(2)
def test_leaders_that_die_right_after_writing(seed: int) -> None:
    """As in the paper's Figure 8: leaders die with entries on few disks, again and again."""
    lab = Lab(5, seed)
    asked = []
    for _ in range(40):
        for twin in lab.cluster.live():
            if twin.peer.raft.is_leader:
                asked.append(lab.ask(twin.name))
                break
        lab.cluster.run(lab.rng.choice((0.02, 0.02, 0.02, 0.5)))
        leading = [twin.name for twin in lab.cluster.live() if twin.peer.raft.is_leader]
        if leading and (len(lab.names) > 3 or lab.rng.random() < 0.3):
            lab.crash(leading[0])
        if len(lab.names) < 3:
            lab.restart(lab.rng.choice(sorted(lab.disks)))
        if not lab.cluster.has_leader() and len(lab.names) >= 3:
            lab.cluster.run(0.4)
    lab.restart()
    lab.agree(within_s=20.0)
    lab.agree_in_all(asked)


@seeded(2)
def test_a_bad_network_loses_no_write(seed: int) -> None:
    lab = Lab(5, seed)
    lab.unreliable()
    keys = []
    for _ in range(12):
        keys += [lab.ask(lab.rng.choice(lab.names)) for _ in range(5)]
        keys.append(lab.agree(on=1))
    lab.reliable()
    lab.agree(within_s=20.0)
    lab.agree_in_all(keys)


@seeded(2)
def test_leaders_are_cut_off_on_a_bad_network(seed: int) -> None:
    """Figure 8 again, with cuts instead of deaths, and messages that overtake each other."""
    lab = Lab(5, seed)
    lab.unreliable()
    asked, gone = [], set()
    for _ in range(40):
        for name in [twin.name for twin in lab.cluster.live() if twin.peer.raft.is_leader]:
            asked.append(lab.ask(name))
            if lab.rng.random() < 0.5 and name not in gone:
                lab.cut(name)
                gone.add(name)
        lab.cluster.run(lab.rng.choice((0.02, 0.1, 0.5)))
        if len(gone) > 2:
            lab.heal()
            gone = set()
    lab.heal()
    lab.reliable()
    lab.agree(within_s=20.0)
    lab.agree_in_all(asked)


@pytest.mark.parametrize("bad", [False, True], ids=["good network", "bad network"])
@seeded(2)
def test_whatever_a_client_was_told_is_there_after_much_change(seed: int, bad: bool) -> None:
    """Three clients write all the time; peers are cut off, die and come back."""
    lab = Lab(5, seed)
    if bad:
        lab.unreliable()
    asked = []
    for _ in range(20):
        asked += [lab.ask(lab.rng.choice(lab.names)) for _ in range(3)]
        event = lab.rng.random()
        if event < 0.2 and len(lab.names) > 3:
            lab.crash(lab.rng.choice(lab.names))
        elif event < 0.5 and lab.disks:
            lab.restart(lab.rng.choice(sorted(lab.disks)))
        elif event < 0.7:
            lab.cut(lab.rng.choice(lab.names))
        elif event < 0.9:
            lab.heal()
        lab.cluster.run(lab.rng.choice((0.05, 0.3, 0.7)))
    lab.heal()
    lab.reliable()
    lab.restart()
    lab.agree(within_s=20.0)
    lab.agree_in_all(asked)
    assert sum(map(lab.is_acknowledged, asked)) > 5
