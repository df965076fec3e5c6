"""Who votes: tables, and random histories in which the electorate must stay safe and settle."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.changes import ConfChangeType
from p2p.control.autopilot import (
    CAUGHT_UP_ENTRIES,
    STEADY_S,
    Change,
    Electorate,
    HandOver,
    plan,
    voters_wanted,
)
from p2p.replicated.state import Member
from tests.peer_fakes import member, members


@pytest.mark.parametrize(
    ("peers", "voters"), [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (50, 5)]
)
def test_the_largest_odd_number_up_to_five(peers: int, voters: int) -> None:
    assert voters_wanted(peers) == voters


def electorate(
    voters: str,
    learners: str = "",
    silent: str = "",
    fresh: str = "",
    joint: bool = False,
    **behind: int,
) -> Electorate:
    """Led by "a"; all but the silent ones have everything, or are `behind`; and all but the fresh
    ones have so for long.
    """
    heard = {peer: 0 for peer in voters + learners if peer not in silent} | behind
    steady = {peer: STEADY_S for peer in heard if peer not in fresh}
    return Electorate("a", frozenset(voters), frozenset(learners), heard, steady, joint)


def some(alive: str, dead: str = "", left: str = "") -> dict[str, Member]:
    return {
        **members(*alive),
        **{peer: member(peer, "dead") for peer in dead},
        **{peer: member(peer, "left") for peer in left},
    }


# What happens, the members, the configuration, and the change: "+b" is add-voter, "~b" add-learner,
# "-b" remove, "→b" the hand-over.
TABLE: list[tuple[str, dict[str, Member], Electorate, str]] = [
    ("alone", some("a"), electorate("a"), ""),
    ("a new one follows first", some("ab"), electorate("a"), "~b"),
    ("several new ones at once", some("abcd"), electorate("a"), "~b ~c ~d"),
    ("two peers, one vote", some("ab"), electorate("a", "b"), ""),
    ("three peers, three votes, at once", some("abc"), electorate("a", "bc"), "+b +c"),
    ("five peers, from one vote", some("abcde"), electorate("a", "bcde"), "+b +c +d +e"),
    ("five peers, from three votes", some("abcde"), electorate("abc", "de"), "+d +e"),
    ("not before both are ready", some("abc"), electorate("a", "bc", fresh="c"), ""),
    ("as many as are ready", some("abcde"), electorate("a", "bcde", fresh="d"), "+b +c"),
    ("not while it is silent", some("abc"), electorate("a", "bc", silent="c"), ""),
    ("not while a change is under way", some("abc"), electorate("a", "bc", joint=True), ""),
    ("a dead newcomer is not admitted", some("a", dead="b"), electorate("a"), ""),
    ("a dead voter keeps its seat", some("ab", dead="c"), electorate("abc", silent="c"), ""),
    (
        "until another can take it",
        some("abd", dead="c"),
        electorate("abc", "d", silent="c"),
        "+d ~c",
    ),
    (
        "which must be ready",
        some("abd", dead="c"),
        electorate("abc", "d", silent="c", fresh="d"),
        "",
    ),
    (
        "two dead ones are replaced at once",
        some("abcfg", dead="de"),
        electorate("abcde", "fg", silent="de"),
        "+f +g ~d ~e",
    ),
    (
        "half of the voters silent may be a partition",
        some("abef", dead="cd"),
        electorate("abcd", "ef", silent="cd"),
        "",
    ),
    ("an even number is mended", some("abcd"), electorate("abcd"), "~d"),
    ("who left gives its vote up", some("ab", left="c"), electorate("abc"), "~b ~c"),
    ("… to a learner if there is one", some("abd", left="c"), electorate("abc", "d"), "+d ~c"),
    (
        "… as soon as it is ready",
        some("abd", left="c"),
        electorate("abc", "d", fresh="d"),
        "",
    ),
    ("a replaced one too", some("abd"), electorate("abc", "d", silent="c", fresh="d"), ""),
    ("… by the new one", some("abd"), electorate("abc", "d", silent="c"), "+d ~c"),
    ("who was removed too", some("ab"), electorate("abc"), "~b ~c"),
    ("and is forgotten", some("ab"), electorate("a", "bc"), "-c"),
    ("a dead learner counts for no seat", some("abcd", dead="e"), electorate("abc", "de"), ""),
    (
        "the dead keep their seats when another leaves",
        some("ab", dead="de", left="c"),
        electorate("abcde", silent="de"),
        "~c ~e",
    ),
    ("a leaving leader hands over", some("bc", left="a"), electorate("abc"), "→b"),
    ("to who has most", some("bc", left="a"), electorate("abc", b=1), "→c"),
    (
        "… if that is enough",
        some("bcd", left="a"),
        electorate("abc", "d", silent="d", b=CAUGHT_UP_ENTRIES, c=CAUGHT_UP_ENTRIES),
        "",
    ),
    ("a removed leader too", some("bc"), electorate("abc"), "→b"),
    ("to a new voter if need be", some("b", left="a"), electorate("a", "b"), "+b"),
    ("which then leads", some("b", left="a"), electorate("ab"), "→b"),
    ("a leader once called dead stays", some("bc", dead="a"), electorate("abc"), ""),
]
SIGNS = {ConfChangeType.ADD_VOTER: "+", ConfChangeType.ADD_LEARNER: "~", ConfChangeType.REMOVE: "-"}


@pytest.mark.parametrize(
    ("known", "seats", "wanted"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE]
)
def test_the_next_change(known: dict[str, Member], seats: Electorate, wanted: str) -> None:
    match plan(known, seats):
        case Change(steps, reason):
            assert " ".join(SIGNS[step.type] + step.peer for step in steps) == wanted
            assert reason
        case HandOver(peer, reason):
            assert f"→{peer}" == wanted
            assert reason
        case None:
            assert wanted == ""


def test_a_change_says_why() -> None:
    change = plan(some("abd", dead="c"), electorate("abc", "d", silent="c"))
    assert change is not None
    assert change.reason == ("name-d gets a vote; name-c is dead and gives its vote up; 3 vote now")


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
        behind, steady = dict.fromkeys(present, 0), dict.fromkeys(present, STEADY_S)
        voters, learners = frozenset(self.voters), frozenset(self.learners)
        return Electorate(self.leader, voters, learners, behind, steady)

    def step(self) -> Change | HandOver | None:
        decision = plan(self.members, self.known())
        if isinstance(decision, HandOver):
            assert decision.peer in self.voters & self.running
            assert self.members[decision.peer].state == "alive"
            self.leader = decision.peer
        elif decision is not None:
            self.follow(decision)
        return decision

    def follow(self, change: Change) -> None:
        before = set(self.voters)
        assert len({step.peer for step in change.steps}) == len(change.steps)
        for step in change.steps:
            peer = step.peer
            match step.type:
                case ConfChangeType.ADD_VOTER:
                    assert peer in self.learners & self.running
                    self.learners.discard(peer)
                    self.voters.add(peer)
                case ConfChangeType.ADD_LEARNER:
                    assert peer != self.leader, "the leader never demotes itself"
                    self.voters.discard(peer)
                    self.learners.add(peer)
                case ConfChangeType.REMOVE:
                    assert peer not in self.voters, "nobody loses a vote and the log at once"
                    self.learners.discard(peer)
        assert change.votes == (self.voters != before)
        if not change.votes:
            return
        leaving = self.leader not in self.members or self.members[self.leader].state == "left"
        assert len(self.voters) % 2 or leaving, f"{change} makes {len(self.voters)} voters"
        if self.quorum(before):
            assert self.quorum(self.voters), f"{change} lost the quorum of {before}"

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
