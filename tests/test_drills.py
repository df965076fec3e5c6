"""Drills: a table of who reaches whom, and whole peers that are cut off and come back."""

from random import Random

import pytest

from p2p.wire.drills import DELAY_S, DROP_SHARE, Drill, DrillKind, Drills
from tests.peer_twins import grown

AB = frozenset("ab")
TABLE: list[tuple[DrillKind, str, str, str, bool]] = [
    ("partition", "a", "b", "raft", True),
    ("partition", "c", "d", "raft", True),
    ("partition", "a", "c", "raft", False),
    ("partition", "c", "b", "report", False),
    ("partition", "a", "c", "request", True),
    ("partition", "a", "c", "reply", True),
]


@pytest.mark.parametrize(("kind", "sender", "receiver", "message", "passes"), TABLE)
def test_who_reaches_whom(
    kind: DrillKind, sender: str, receiver: str, message: str, passes: bool
) -> None:
    drills = Drills().and_also(Drill(kind, AB))
    assert (drills.delay_s(sender, receiver, message, Random(1)) == 0.0) == passes


def test_delays_overtake_and_drops_lose_some() -> None:
    rng = Random(1)
    late = Drills().and_also(Drill("delay", AB))
    lossy = Drills().and_also(Drill("drop", AB))
    delays = [late.delay_s("a", "c", "raft", rng) or 0.0 for _ in range(1_000)]
    assert min(delays) >= 0.0
    assert max(delays) <= 2 * DELAY_S
    assert delays != sorted(delays)
    lost = sum(lossy.delay_s("c", "b", "raft", rng) is None for _ in range(1_000))
    assert abs(lost / 1_000 - DROP_SHARE) < 0.05
    assert late.delay_s("c", "d", "raft", rng) == 0.0 == lossy.delay_s("c", "d", "raft", rng)


def test_a_drill_ends_by_itself() -> None:
    drills = Drills().and_also(Drill("partition", AB, until_s=5.0))
    assert drills.at(4.9).cuts_off
    assert not drills.at(5.0).cuts_off


def test_a_leader_that_is_cut_off_is_replaced_and_comes_back_when_healed() -> None:
    cluster = grown(3, allow_faults=True)
    old = cluster.leader.name
    other = next(twin.name for twin in cluster.live() if twin.name != old)
    assert "ok" in cluster.ask(other, "fault", kind="partition", peer=old, side=[old])
    cluster.until(
        lambda: any(t.peer.raft.is_leader for t in cluster.live() if t.name != old), "another leads"
    )
    answer = cluster.ask(cluster.leader.name, "submit", task="digits", peers_min=9)
    assert "ok" in answer
    cut_off = cluster.twins[old].peer
    cluster.until(lambda: not cut_off.raft.status.has_quorum_contact, "it knows")
    cluster.until(lambda: cluster.leader.peer.state.members[old].state == "dead", "the others know")
    assert answer["ok"]["job"] not in cut_off.state.jobs
    assert "ok" in cluster.ask(other, "fault", kind="heal", peer=old)
    cluster.until(lambda: answer["ok"]["job"] in cut_off.state.jobs, "it caught up")


@pytest.mark.parametrize("kind", ["partition", "kill", "pause"])
def test_a_drill_is_agreed_before_it_is_done(kind: str) -> None:
    """Of a leader above all, which could tell nobody afterwards."""
    cluster = grown(3, allow_faults=True)
    old = cluster.leader.name
    other = next(twin.name for twin in cluster.live() if twin.name != old)
    assert "ok" in cluster.ask(other, "fault", kind=kind, peer=old, side=[old], for_s=5.0)
    lasts = "" if kind == "kill" else " for 5 s"
    told = [event.text for event in cluster.twins[old].peer.state.events]
    assert f"a drill: {kind} name-{old}{lasts}" in told
    if kind == "partition":
        others = [twin for twin in cluster.live() if twin.name != old]
        cluster.until(lambda: any(twin.peer.raft.is_leader for twin in others), "another leads")
        assert told[-1] in [event.text for event in cluster.leader.peer.state.events]


def test_a_drill_without_anybody_who_agrees_is_done_all_the_same() -> None:
    cluster = grown(3, allow_faults=True)
    last = cluster.leader.name
    for twin in list(cluster.live()):
        if twin.name != last:
            cluster.kill(twin.name)
    assert "ok" in cluster.ask(last, "fault", kind="pause", peer=last, for_s=2.0)
    cluster.run(0.2)
    assert cluster.twins[last].faults == [("pause", 2.0)]


@pytest.mark.parametrize(("args", "code"), [({"for_s": 0}, 2), ({"side": ["nobody"]}, 2), ({}, 0)])
def test_a_drill_that_is_refused_or_only_checked_leaves_no_trace(args: dict, code: int) -> None:
    cluster = grown(1, allow_faults=True)
    me, before = cluster.leader, cluster.leader.peer.state
    answer = cluster.ask(
        me.name, "fault", **{"kind": "kill", "peer": me.name, "only_check": code == 0, **args}
    )
    assert answer.get("exit_code", 0) == code
    cluster.run(0.2)
    assert (me.faults, me.peer.state.events) == ([], before.events)


def test_two_on_one_side_of_five_find_no_leader() -> None:
    cluster = grown(5, allow_faults=True)
    small = [twin.name for twin in cluster.live() if not twin.peer.raft.is_leader][:2]
    for name in small:
        assert "ok" in cluster.ask("a", "fault", kind="partition", peer=name, side=small)
    for name in small:
        status = cluster.twins[name].peer.raft
        cluster.until(lambda status=status: status.status.leader is None, "no leader there")
    assert cluster.leader.name not in small
    for name in small:
        cluster.ask("a", "fault", kind="heal", peer=name)
    cluster.until(cluster.agreed, "agreement")


@pytest.mark.parametrize("kind", ["delay", "drop"])
def test_requests_are_served_on_a_bad_network(kind: str) -> None:
    cluster = grown(3, allow_faults=True)
    for twin in cluster.live():
        assert "ok" in cluster.ask("a", "fault", kind=kind, peer=twin.name, for_s=4.0)
    for attempt in range(20):
        told = cluster.ask("b", "submit", task="digits", peers_min=9, name=f"job{attempt}")
        if "ok" in told:
            break
        cluster.run(0.2)
    assert "ok" in told, told
    cluster.until(
        lambda: not cluster.twins["a"].peer.mail.drills.at(cluster.clock.now_s).running, "end"
    )
    cluster.until(cluster.agreed, "agreement")
