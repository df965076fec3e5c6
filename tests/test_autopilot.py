"""Who votes: tables, and random histories in which the electorate must stay safe and settle."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.autopilot import CAUGHT_UP_ENTRIES, Change, Electorate, plan, voters_wanted
from p2p.state import Member
from tests.peer_fakes import member, members


@pytest.mark.parametrize(
    ("peers", "voters"), [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (50, 5)]
)
def test_the_largest_odd_number_up_to_five(peers: int, voters: int) -> None:
    assert voters_wanted(peers) == voters


def electorate(voters: str, learners: str = "", silent: str = "", **behind: int) -> Electorate:
    """Led by "a"; all but the silent ones have everything, or are `behind`."""
    heard = {peer: 0 for peer in voters + learners if peer not in silent}
    return Electorate("a", frozenset(voters), frozenset(learners), {**heard, **behind})


def some(alive: str, dead: str = "", left: str = "") -> dict[str, Member]:
    return {
        **members(*alive),
        **{peer: member(peer, "dead") for peer in dead},
        **{peer: member(peer, "left") for peer in left},
    }


TABLE: list[tuple[str, dict[str, Member], Electorate, tuple[str, str] | None]] = [
    ("alone", some("a"), electorate("a"), None),
    ("a new one follows first", some("ab"), electorate("a"), ("add-learner", "b")),
    ("two peers, one vote", some("ab"), electorate("a", "b"), None),
    ("three peers, three votes", some("abc"), electorate("a", "bc"), ("add-voter", "b")),
    ("… one after the other", some("abc"), electorate("ab", "c"), ("add-voter", "c")),
    ("not before it caught up", some("abc"), electorate("ab", "c", c=CAUGHT_UP_ENTRIES), None),
    ("not while it is silent", some("abc"), electorate("ab", "c", silent="c"), None),
    ("a dead newcomer is not admitted", some("a", dead="b"), electorate("a"), None),
    ("a dead voter keeps its seat", some("ab", dead="c"), electorate("abc", silent="c"), None),
    (
        "until another can take it",
        some("abd", dead="c"),
        electorate("abc", "d", silent="c"),
        ("add-voter", "d"),
    ),
    ("and loses it then", some("abd", dead="c"), electorate("abcd"), ("add-learner", "c")),
    ("who left gives its vote up", some("ab", left="c"), electorate("abc"), ("add-learner", "c")),
    ("and the even one with it", some("ab", left="c"), electorate("ab"), ("add-learner", "b")),
    ("who was removed too", some("ab"), electorate("abc"), ("add-learner", "c")),
    ("and is forgotten", some("ab"), electorate("a", "bc"), ("remove", "c")),
    ("a dead learner counts for no seat", some("abcd", dead="e"), electorate("abc", "de"), None),
    (
        "the dead go before the leaving",
        some("ab", dead="de", left="c"),
        electorate("abcde", silent="de"),
        ("add-learner", "e"),
    ),
    ("a leaving leader hands over", some("bc", left="a"), electorate("abc"), ("transfer", "b")),
    ("to one that has everything", some("bc", left="a"), electorate("abc", b=1), ("transfer", "c")),
    (
        "… in time",
        some("bcd", left="a"),
        electorate("abc", "d", silent="d", b=1, c=1),
        None,
    ),
    ("a removed leader too", some("bc"), electorate("abc"), ("transfer", "b")),
    ("to a new voter if need be", some("b", left="a"), electorate("a", "b"), ("add-voter", "b")),
    ("a leader once called dead stays", some("bc", dead="a"), electorate("abc"), None),
]


@pytest.mark.parametrize(
    ("known", "seats", "wanted"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE]
)
def test_the_next_change(
    known: dict[str, Member], seats: Electorate, wanted: tuple[str, str] | None
) -> None:
    change = plan(known, seats)
    assert (change and (change.action, change.peer)) == wanted
    assert change is None or change.reason


class Electing:
    """Members that come and go, and a Raft configuration that follows the autopilot."""

    def __init__(self) -> None:
        self.members = members("a")
        self.running = {"a"}
        self.voters, self.learners = {"a"}, set[str]()
        self.leader = "a"
        self.count = 0

    def quorum(self, voters: set[str]) -> bool:
        return 2 * len(voters & self.running) > len(voters)

    def happen(self, kind: str, which: int) -> None:
        names = sorted(self.members)
        peer = names[which % len(names)]
        match kind:
            case "join":
                self.count += 1
                new = f"p{self.count:02}"
                self.members[new] = member(new)
                self.running.add(new)
            case "die" if self.quorum_without(peer):
                self.running.discard(peer)
                self.elect()
                self.members[peer] = replace(self.members[peer], state="dead")
            case "back":
                self.running.add(peer)
                self.members[peer] = replace(self.members[peer], state="alive")
            case "leave":
                self.members[peer] = replace(self.members[peer], state="left")
            case "remove" if len(names) > 1:
                del self.members[peer]

    def quorum_without(self, peer: str) -> bool:
        return 2 * len((self.voters & self.running) - {peer}) > len(self.voters)

    def elect(self) -> None:
        if self.leader not in self.running:
            self.leader = min(self.voters & self.running)

    def known(self) -> Electorate:
        present = (self.voters | self.learners) & self.running
        behind = dict.fromkeys(present, 0)
        return Electorate(self.leader, frozenset(self.voters), frozenset(self.learners), behind)

    def step(self) -> Change | None:
        change = plan(self.members, self.known())
        if change is None:
            return None
        before = set(self.voters)
        match change.action:
            case "add-voter":
                assert change.peer in self.running
                self.learners.discard(change.peer)
                self.voters.add(change.peer)
            case "add-learner":
                assert change.peer != self.leader, "the leader never demotes itself"
                self.voters.discard(change.peer)
                self.learners.add(change.peer)
            case "remove":
                assert change.peer not in self.voters, "nobody loses a vote and the log at once"
                self.learners.discard(change.peer)
            case "transfer":
                assert change.peer in self.voters & self.running
                self.leader = change.peer
        assert len(before ^ self.voters) <= 1
        if self.quorum(before):
            assert self.quorum(self.voters), f"{change} lost the quorum of {before}"
        return change

    def settle(self) -> None:
        for _ in range(60):
            if self.step() is None:
                return
        raise AssertionError("the autopilot never rests")

    def exit_the_leaving(self) -> None:
        """Who left or was removed ends when it has no vote any more."""
        for peer in list(self.running):
            going = peer not in self.members or self.members[peer].state == "left"
            if going and peer not in self.voters and len(self.members) > 1:
                self.running.discard(peer)


EVENT = st.tuples(
    st.sampled_from(("join", "join", "join", "die", "back", "leave", "remove")),
    st.integers(0, 9),
    st.integers(0, 4),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENT, max_size=25))
def test_it_settles_on_an_odd_number_and_never_loses_the_quorum(events: list[Any]) -> None:
    cluster = Electing()
    for kind, which, steps in events:
        cluster.happen(kind, which)
        for _ in range(steps):
            cluster.step()
        cluster.exit_the_leaving()
    cluster.settle()
    cluster.exit_the_leaving()
    alive = {peer for peer, told in cluster.members.items() if told.state == "alive"}
    if not alive:
        return  # the last one leaves: nobody is there to take over
    assert cluster.leader in alive
    assert len(cluster.voters) % 2 == 1
    assert cluster.voters <= cluster.members.keys()
    dead_voters = {peer for peer in cluster.voters if cluster.members[peer].state == "dead"}
    assert len(cluster.voters) == voters_wanted(len(alive | dead_voters))
    assert not dead_voters or len(alive) < len(cluster.voters), "a live learner takes a dead seat"
    assert alive <= cluster.voters | cluster.learners
