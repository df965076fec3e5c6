"""The situations of a well-known course's Raft labs, in our words, on whole twins in memory.

Writes go through the production peer: request, log, disk, state. Time is simulated.
"""

from tests.lab import Lab

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
