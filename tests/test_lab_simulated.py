"""The situations of a well-known course's Raft labs, in our words, on whole twins in memory.

Writes go through the production peer: request, log, disk, state. Time is simulated.
"""

import pytest

from tests.lab import Lab


def seeded(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seed", range(count))


# -- elections -------------------------------------------------------------------------------------


def test_one_leader_and_a_quiet_term() -> None:
    lab = Lab(3)
    term = lab.terms()
    assert len(term) == 1
    assert min(term) >= 1
    lab.cluster.run(5.0)
    assert lab.terms() == term
    assert list(map(len, lab.leaders_by_term().values())) == [1]


def test_a_new_leader_when_the_old_is_cut_off_and_none_without_a_majority() -> None:
    lab = Lab(3)
    old = lab.leader
    lab.cut(old)
    lab.cluster.until(lambda: lab.led_with_contact() not in ([], [old]), "another leader")
    new = lab.led_with_contact()[-1]
    lab.heal()
    lab.cluster.until(lambda: lab.led_with_contact() == [new] == lab.leaders(), "it stays")
    lab.cut(new, next(name for name in lab.names if name not in (new, old)))
    lab.cluster.until(lambda: not lab.led_with_contact(), "nobody hears a majority")
    lab.cluster.run(2.0)
    assert not lab.led_with_contact()
    lab.heal()
    lab.cluster.until(lambda: len(lab.leaders()) == len(lab.led_with_contact()) == 1, "a leader")


def test_many_elections() -> None:
    """Of seven peers five vote; any two voters (and a learner) may be cut off."""
    lab = Lab(7)
    for _ in range(9):
        voters = sorted(lab.cluster.voters())
        learners = [name for name in lab.names if name not in voters]
        gone = [*lab.rng.sample(voters, 2), lab.rng.choice(learners)]
        lab.cut(*gone)
        lab.cluster.until(
            lambda gone=gone: len(set(lab.led_with_contact()) - set(gone)) == 1, "one leader"
        )
        for leaders in lab.leaders_by_term().values():
            assert len(leaders) == 1
        lab.heal()
    lab.agree()


# -- agreement -------------------------------------------------------------------------------------


def test_nothing_is_there_before_it_is_asked_for_then_three_writes_are() -> None:
    lab = Lab(3)
    assert not any(len(twin.peer.state.store) for twin in lab.cluster.live())
    lab.all_have(*(lab.agree() for _ in range(3)))


def test_each_command_goes_to_each_peer_once() -> None:
    lab = Lab(3)
    lab.counting()
    for _ in range(10):
        lab.agree_on_bytes(5_000)
    moved = sum(size for _, _, size in lab.sent)
    assert moved <= 3 * 10 * 5_000 + 50_000


def test_progress_with_one_follower_less_none_with_two() -> None:
    lab = Lab(3)
    first, second = lab.followers
    lab.cut(first)
    lab.agree(on=2)
    lab.agree(on=2)
    lab.cut(second)
    lab.nobody_agrees(lab.ask())


def test_progress_after_the_leader_is_cut_off_none_after_the_next() -> None:
    lab = Lab(3)
    lab.agree()
    old = lab.leader
    lab.cut(old)
    lab.cluster.until(lambda: lab.led_with_contact() not in ([], [old]), "another leader")
    lab.agree(on=2)
    new = lab.majority_leader()
    lab.cut(new)
    lab.nobody_agrees(lab.ask(new))


def test_a_follower_that_was_away_catches_up_and_keeps_what_it_had() -> None:
    lab = Lab(3)
    keys = [lab.agree()]
    lab.cut(lab.followers[0])
    keys += [lab.agree(on=2) for _ in range(4)]
    lab.heal()
    keys += [lab.agree() for _ in range(2)]
    lab.all_have(*keys)


def test_no_agreement_while_most_followers_are_away_then_all_is_well() -> None:
    lab = Lab(5)
    lab.agree()
    lab.cut(*lab.followers[:3])
    lost = lab.ask()
    lab.nobody_agrees(lost)
    lab.heal()
    lab.agree()
    lab.agree()
    assert lab.holders(lost) in (0, 5)


def test_writes_at_the_same_time_all_happen() -> None:
    lab = Lab(3)
    keys = [lab.ask() for _ in range(5)]
    lab.cluster.until(lambda: all(map(lab.is_acknowledged, keys)), "all are acknowledged")
    lab.agree()
    lab.all_have(*keys)


def test_a_cut_off_leader_with_writes_of_its_own_gives_way() -> None:
    lab = Lab(3)
    lab.agree()
    old = lab.leader
    lab.cut(old)
    lost = [lab.ask(old) for _ in range(3)]
    lab.cluster.until(lambda: lab.led_with_contact() not in ([], [old]), "another leader")
    kept = lab.agree(on=2)
    new = lab.majority_leader()
    lab.cut(new)
    lab.cluster.hub.cut -= {pair for pair in lab.cluster.hub.cut if lab.address(new) not in pair}
    kept_too = lab.agree(on=2)
    lab.heal()
    kept_last = lab.agree()
    lab.all_have(kept, kept_too, kept_last)
    assert not any(map(lab.is_acknowledged, lost))


def test_many_conflicting_entries_are_backed_over_quickly() -> None:
    lab = Lab(5)
    lab.agree()
    first = lab.leader
    lab.cut(*[name for name in lab.followers if name != lab.followers[0]])
    lost = [lab.ask(first) for _ in range(50)]
    lab.cluster.run(0.3)
    left = [first, lab.followers[0]]
    lab.heal()
    lab.cut(*left)
    lab.cluster.until(lambda: set(lab.led_with_contact()) - set(left), "another leader")
    kept = [lab.ask((set(lab.led_with_contact()) - set(left)).pop()) for _ in range(50)]
    lab.cluster.until(lambda: all(map(lab.is_acknowledged, kept)), "the others go on")
    lab.heal()
    began_s = lab.cluster.clock.now_s
    lab.agree()
    assert lab.cluster.clock.now_s - began_s < 3.0
    lab.all_have(*kept)
    assert not any(map(lab.is_acknowledged, lost))


def test_messages_are_few() -> None:
    """An election, ten writes at once and an idle second each cost a bounded number."""
    lab = Lab(3)
    lab.counting()
    lab.cluster.leader.peer.raft.transfer(lab.followers[0])
    lab.cluster.until(lambda: len(lab.leaders_by_term()) == 1, "the next leader")
    lab.cluster.run(0.2)
    assert len([1 for _, kind, _ in lab.sent if "Vote" in kind]) <= 30
    lab.sent.clear()
    keys = [lab.ask() for _ in range(10)]
    lab.cluster.until(lambda: all(lab.holders(key) == 3 for key in keys), "ten writes")
    assert len([1 for _, kind, _ in lab.sent if "App" in kind]) <= 2 * (10 + 1 + 3) * 3
    lab.cluster.run(1.0)
    lab.sent.clear()
    lab.cluster.run(1.0)
    assert len([1 for _, kind, _ in lab.sent if kind.startswith("Msg")]) <= 2 * 60


# -- power cuts ------------------------------------------------------------------------------------


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
