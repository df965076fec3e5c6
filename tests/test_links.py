"""Who is linked to whom: voters to all, learners to the voters and the leader, and to no more."""

import pytest

from consensus.node import Role, Status
from p2p.wire.links import STRANGERS_MAX, Links, links_wanted
from p2p.wire.network import MemoryHub, MemoryNetwork
from tests.peer_fakes import members
from tests.peer_twins import TwinCluster


def status(self_id: str, voters: str, learners: str, leader: str | None = None) -> Status:
    return Status(
        id=self_id,
        term=1,
        role=Role.FOLLOWER,
        leader=leader,
        commit=1,
        applied=1,
        last_index=1,
        voters=tuple(voters),
        learners=tuple(learners),
        progress={},
        lead_transferee=None,
        has_quorum_contact=True,
        first_index=1,
        snapshot_index=0,
        voters_outgoing=(),
        learners_next=(),
        pending_conf_index=0,
    )


@pytest.mark.parametrize(
    ("self_id", "voters", "leader", "wanted"),
    [
        ("a", "abc", "a", "bcde"),
        ("b", "abc", "a", "acde"),
        ("d", "abc", "a", "abc"),
        ("d", "abc", None, "abc"),
        ("d", "abc", "e", "abce"),
        ("d", "", None, ""),
    ],
)
def test_links_wanted(self_id: str, voters: str, leader: str | None, wanted: str) -> None:
    told = status(self_id, voters, "de", leader)
    assert links_wanted(self_id, frozenset("abcde"), told) >= set(wanted)
    if voters:
        assert links_wanted(self_id, frozenset("abcde"), told) == set(wanted)


def test_a_learner_that_becomes_a_voter_links_to_all_and_back() -> None:
    network = MemoryNetwork(MemoryHub(), "h:1")
    links = Links("d", network)
    known = members(*"abcde")
    links.follow(known, status("d", "abc", "de"))
    assert set(network.links) == set("abc")
    links.follow(known, status("d", "abd", "ce"))
    assert set(network.links) == set("abce")
    assert links.follow(known, status("d", "abc", "de")) == ["e"]
    assert set(network.links) == set("abc")
    without_b = {peer: member for peer, member in known.items() if peer != "b"}
    links.follow(without_b, status("d", "abc", "de"))
    assert "b" in network.links, "removed, but it must hear of it"
    links.follow(without_b, status("d", "ac", "de"))
    assert set(network.links) == set("ac")


def test_strangers_are_answered_but_not_all_of_them() -> None:
    network = MemoryNetwork(MemoryHub(), "h:1")
    links = Links("d", network)
    links.follow(members(*"abd"), status("d", "ab", "d"))
    for number in range(3 * STRANGERS_MAX):
        links.heard(f"s{number}", f"h:{100 + number}")
    links.heard("a", "h:2")
    assert network.links["a"] == "h:2"
    assert len(network.links) == 2 + STRANGERS_MAX


def test_eight_peers_need_few_links_and_a_learner_is_asked_through_the_leader() -> None:
    cluster = TwinCluster()
    cluster.found("a", allow_faults=True)
    for name in "bcdefgh":
        cluster.join(name, allow_faults=True)
    cluster.until(lambda: len(cluster.voters()) == 5, "five voters")
    cluster.until(cluster.agreed, "agreement")
    learners = sorted({twin.name for twin in cluster.live()} - cluster.voters())
    for twin in cluster.live():
        expected = 5 if twin.name in learners else 7
        assert len(twin.network.links) == expected, twin.name
    one, other = learners[:2]
    assert cluster.ask(one, "fault", peer=other, kind="pause", for_s=2.0)["ok"]["peer"] == other
    cluster.kill(cluster.leader.name)
    cluster.until(cluster.has_leader, "a new leader")
    cluster.until(lambda: len(cluster.voters() & set(learners)) == 1, "a learner takes the seat")
    cluster.until(cluster.agreed, "agreement")
    promoted = cluster.twins[next(iter(cluster.voters() & set(learners)))]
    assert len(promoted.network.links) == 7


def test_a_message_from_where_a_peer_was_does_not_hold_the_link_there() -> None:
    """It was late; the peer, which hears nothing, says again where it is."""
    network = MemoryNetwork(MemoryHub(), "127.0.0.1:1")
    links = Links("a", network)
    known = members("a", "b")
    links.follow(known, status("a", "ab", ""))
    links.heard("b", "10.0.0.1:7000")
    assert network.links["b"] == "10.0.0.1:7000"
    links.follow(known, status("a", "ab", ""))  # the log says nothing
    assert network.links["b"] == "10.0.0.1:7000"
    links.follow(dict(known), status("a", "ab", ""))  # the log says it again
    assert network.links["b"] == known["b"].address
