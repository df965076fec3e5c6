"""Whole peers, in memory: they find each other, agree, survive, and refuse what is malformed."""

import errno
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.messages import Message, MessageType
from consensus.wal import segment_name
from p2p.raft_host import COMMAND_BYTES_MAX, ELECTION_TICKS, TICK_S
from p2p.replicated.apply_sessions import Ticket
from p2p.reports import KEPT_MESSAGES
from p2p.storage.disk import DiskFailed
from p2p.wire.envelope import ENVELOPE_BYTES_MAX, KINDS, PROTOCOL_VERSION, Envelope, encode
from tests.peer_fakes import CLUSTER, described
from tests.peer_twins import CLIENT, Twin, TwinCluster, grown

SUBMIT = {"task": "digits"}


def job(cluster: TwinCluster, number: int = 1) -> Any:
    return cluster.leader.peer.state.jobs[f"job-{number}"]


def submitted(count: int, **fields: Any) -> TwinCluster:
    """A cluster with one job that runs on all peers."""
    cluster = grown(count, **fields)
    assert cluster.ask("a", "submit", **SUBMIT)["ok"] == {"job": "job-1"}
    runs_on(cluster, *sorted(cluster.twins))
    return cluster


def runs_on(cluster: TwinCluster, *peers: str, within_s: float = 15.0) -> float:
    return cluster.until(
        lambda: (
            cluster.has_leader()
            and job(cluster).state == "running"
            and job(cluster).members == peers
        ),
        f"the job runs on {peers}",
        within_s,
    )


# -- found, join, leave, remove ------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_peers_find_each_other_and_rest(count: int) -> None:
    cluster = grown(count)
    states = [twin.peer.state for twin in cluster.live()]
    assert all(state == states[0] for state in states)
    assert {told.state for told in states[0].members.values()} == {"alive"}
    applied = cluster.leader.peer.raft.applied
    cluster.run(3.0)
    assert cluster.leader.peer.raft.applied == applied, "nothing happens, nothing is logged"


def test_a_second_found_changes_nothing() -> None:
    cluster = grown(1)
    peer = cluster.leader.peer
    peer.propose({"type": "cluster.found", "cluster_id": "x", "name": "y"})
    cluster.run(0.2)
    assert peer.state.cluster_id == CLUSTER


def test_a_join_through_any_peer() -> None:
    cluster = grown(3)
    twin = cluster.start("d", cluster.kill("d") if "d" in cluster.twins else _empty())
    member = dict(twin.peer.identity.member)
    assert "ok" in cluster.ask("c", "join", member=member)
    cluster.until(lambda: twin.peer.is_known, "d is known")


def _empty() -> Any:
    from p2p.storage.disk_memory import MemoryDisk

    return MemoryDisk()


def test_a_peer_leaves_and_nobody_depends_on_it() -> None:
    cluster = submitted(3)
    leaving = cluster.twins["b"].peer
    leaving.leaving = True
    cluster.ask("b", "leave", peer="b")
    cluster.until(lambda: leaving.has_left, "b has left", 4.0)
    cluster.kill("b")
    runs_on(cluster, "a", "c")
    assert cluster.voters() == {"a"}


def test_the_leader_leaves_and_hands_over() -> None:
    cluster = submitted(3)
    old = cluster.leader
    old.peer.leaving = True
    old.peer.propose({"type": "member.leave", "peer": old.name})
    old.peer.advance()
    cluster.until(lambda: old.peer.has_left, "the leader has left", 4.0)
    assert cluster.leader is not old
    cluster.kill(old.name)
    runs_on(cluster, *sorted(cluster.twins))
    assert cluster.leader.peer.state.members[old.name].state == "left"


def test_the_last_but_one_leaves_even_if_it_leads() -> None:
    cluster = grown(2)
    old = cluster.leader
    old.peer.leaving = True
    old.peer.propose({"type": "member.leave", "peer": old.name})
    old.peer.advance()
    cluster.until(lambda: old.peer.has_left, "the leader has left", 4.0)
    cluster.kill(old.name)
    assert "ok" in cluster.ask("b", "submit", **SUBMIT)


def test_a_removed_peer_hears_of_it_and_cannot_come_back() -> None:
    cluster = grown(3)
    removed = next(twin for twin in cluster.live() if twin is not cluster.leader)
    assert cluster.ask(cluster.leader.name, "remove", peer=removed.name)["ok"]
    cluster.until(lambda: removed.peer.is_removed, "it knows that it was removed", 2.0)
    cluster.until(lambda: removed.name not in cluster.voters(), "it votes no more")
    cluster.run(0.5)
    status = cluster.leader.peer.raft.status
    assert removed.name not in (*status.voters, *status.learners)
    answer = cluster.ask("a", "join", member=dict(removed.peer.identity.member))
    assert answer["exit_code"] == 4


def test_all_come_back_elsewhere_at_once() -> None:
    """Nobody knows anybody's address any more, but each asks the next to be let in."""
    cluster = grown(3)
    cluster.ask("a", "put", key="k", value=b"v")
    disks = {name: cluster.kill(name) for name in ("a", "b", "c")}
    for port, (name, disk) in enumerate(disks.items(), 9_000):
        cluster.start(name, disk, port=port)

    def agreed_anew() -> bool:
        for name, via in (("a", "b"), ("b", "c"), ("c", "a")):
            twin = cluster.twins[name]
            if not twin.peer.is_known:
                cluster.send(via, "join", member=dict(twin.peer.identity.member))
        cluster.run(0.3)
        return cluster.has_leader() and all(twin.peer.is_known for twin in cluster.live())

    cluster.until(agreed_anew, "all are known at their new addresses")
    assert cluster.ask("b", "get", key="k")["ok"]["value"] == b"v"


def test_a_removed_leader_hands_over() -> None:
    cluster = grown(3)
    old = cluster.leader
    assert cluster.ask(old.name, "remove", peer=old.name)["ok"]
    cluster.until(lambda: cluster.leader is not old, "another leader", 4.0)
    cluster.until(lambda: old.name not in cluster.voters(), "it votes no more", 4.0)
    assert old.peer.is_removed


def test_the_only_peer_that_runs_is_not_removed() -> None:
    cluster = grown(2)
    other = next(name for name in cluster.twins if name != cluster.leader.name)
    cluster.kill(other)
    cluster.until(
        lambda: cluster.leader.peer.state.members[other].state == "dead", "the other one is dead"
    )
    answer = cluster.ask(cluster.leader.name, "remove", peer=cluster.leader.name)
    assert "the only peer that runs" in answer["error"]
    assert "ok" in cluster.ask(cluster.leader.name, "remove", peer=other)


# -- jobs and deaths -----------------------------------------------------------------------------


def test_a_job_runs_on_all_and_ends() -> None:
    cluster = submitted(3)
    cluster.may_finish = True
    cluster.until(lambda: job(cluster).state == "finished", "the end")
    cluster.until(lambda: not any(t.children.started for t in cluster.live()), "no trainers")
    detail = cluster.ask("b", "job", job="job-1")["ok"]
    assert (detail["state"], detail["step"], detail["steps_total"]) == ("finished", 40, 40)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [3, 5])
def test_a_killed_leader_is_replaced_and_the_job_goes_on(count: int, seed: int) -> None:
    cluster = submitted(count, seed=seed)
    cluster.run(0.013 * seed)
    old = cluster.leader.name
    cluster.kill(old)
    took = cluster.until(cluster.has_leader, "a new leader")
    assert took < 0.3, "a broken connection is noticed at once, and votes are not split"
    runs_on(cluster, *sorted(cluster.twins), within_s=3.0)
    reasons = [made.reason for made in job(cluster).generations]
    assert f"name-{old} was lost" in reasons[-1]
    assert len(reasons) == 2, "nobody but the dead one was dropped"


def test_killing_a_follower_costs_one_generation() -> None:
    cluster = submitted(5)
    cluster.kill("e")
    assert runs_on(cluster, "a", "b", "c", "d", within_s=2.0) < 0.5
    cluster.run(5.0)
    assert len(job(cluster).generations) == 2


def test_a_killed_peer_comes_back_from_its_disk() -> None:
    cluster = submitted(3)
    disk = cluster.kill("c")
    runs_on(cluster, "a", "b")
    cluster.join("c", disk)
    runs_on(cluster, "a", "b", "c")
    assert len(job(cluster).generations) == 3
    cluster.until(cluster.agreed, "agreement")
    assert cluster.twins["c"].peer.state == cluster.leader.peer.state


def test_a_peer_restarted_at_once_is_not_taken_for_its_dead_self() -> None:
    cluster = submitted(3)
    name = next(name for name in cluster.twins if name != cluster.leader.name)
    disk = cluster.kill(name)
    cluster.run(0.3)
    cluster.start(name, disk)  # its process is there, but it has not said a word yet
    for _ in range(20):
        cluster.step()
        generation = job(cluster).generation
        assert generation is not None
    texts = [event.text for event in cluster.leader.peer.state.events]
    assert f"name-{name} answers again" not in texts


def test_all_die_and_come_back_from_their_disks() -> None:
    cluster = submitted(3)
    disks = {name: cluster.kill(name) for name in list(cluster.twins)}
    for name, disk in disks.items():
        cluster.start(name, disk)
    cluster.until(cluster.has_leader, "a leader")
    for name in disks:
        member = dict(cluster.twins[name].peer.identity.member)
        assert "ok" in cluster.ask(name, "join", member=member)
    runs_on(cluster, "a", "b", "c")


def test_a_majority_that_is_back_elects_without_waiting_for_a_time_out() -> None:
    cluster = grown(5)
    disks = {name: cluster.kill(name) for name in list(cluster.twins)}
    for name in "abc":
        cluster.run(0.1)
        cluster.start(name, disks[name])
    within_s = ELECTION_TICKS * TICK_S / 4
    cluster.until(cluster.has_leader, "a leader", within_s)


def test_who_comes_back_does_not_unseat_the_leader() -> None:
    cluster = grown(3)
    leader, term = cluster.leader.name, cluster.leader.peer.raft.status.term
    for name in sorted(set(cluster.twins) - {leader}):
        cluster.start(name, cluster.kill(name))
        cluster.run(0.5)
    assert (cluster.leader.name, cluster.leader.peer.raft.status.term) == (leader, term)


def test_a_torn_last_write_is_cut_off() -> None:
    cluster = grown(3)
    name = next(name for name in cluster.twins if name != cluster.leader.name)
    disk = cluster.kill(name)
    disk.append(segment_name(1), b"\xf5rfB\x00\x00")
    cluster.join(name, disk)
    cluster.until(cluster.agreed, "agreement")


def test_pause_resume_and_cancel() -> None:
    cluster = submitted(3)
    assert cluster.ask("b", "pause", job="job-1")["ok"]["state"] == "paused"
    cluster.run(0.3)
    for twin in cluster.live():
        (orders,) = twin.children.told.values()
        assert orders[-1] == {"kind": "hold", "wanted": True}
    assert cluster.ask("c", "resume", job="job-1")["ok"]["state"] == "recovering"
    runs_on(cluster, "a", "b", "c")
    assert cluster.ask("a", "cancel", job="job-1")["ok"]["state"] == "cancelled"
    cluster.until(lambda: not any(t.children.started for t in cluster.live()), "no trainers")


def test_the_minority_s_trainers_get_no_more_leases() -> None:
    cluster = submitted(3)
    alone = next(twin for twin in cluster.live() if twin is not cluster.leader)
    cluster.isolate(alone.name)
    cut_s = cluster.clock.now_s
    cluster.until(lambda: alone.name not in job(cluster).members, "a generation without it")
    formed_s = cluster.clock.now_s
    cluster.run(3.0)
    (until_s,) = alone.children.leased_s.values()
    assert cut_s < until_s <= formed_s, "its lease ended before the others went on without it"
    cluster.heal()
    runs_on(cluster, "a", "b", "c")


def test_a_crashed_trainer_is_started_again() -> None:
    cluster = submitted(3)
    twin = cluster.twins["b"]
    (child,) = twin.children.started
    twin.children.kill(child)
    cluster.until(lambda: child not in twin.children.started, "its end")
    runs_on(cluster, "a", "b", "c")


# -- requests ------------------------------------------------------------------------------------


def test_the_same_request_twice_is_one_job() -> None:
    cluster = grown(3)
    ticket = Ticket(cluster.ask("a", "session")["ok"]["session"], 0, 0)
    for name in cluster.twins:
        request = cluster.send(name, "submit", id="same", ticket=ticket, **SUBMIT)
    cluster.until(lambda: request in cluster.replies, "an answer")
    cluster.run(0.5)
    assert list(cluster.leader.peer.state.jobs) == ["job-1"]


def test_without_a_quorum_requests_are_told_so() -> None:
    cluster = grown(3)
    keep = cluster.leader.name
    for name in [name for name in cluster.twins if name != keep]:
        cluster.kill(name)
    request = cluster.send(keep, "submit", **SUBMIT)
    cluster.until(lambda: request in cluster.replies, "an answer", 4.0)
    assert cluster.replies[request]["exit_code"] == 5
    answer = cluster.ask(keep, "submit", **SUBMIT)
    assert answer["exit_code"] == 5
    assert "a majority of 3 voters" in answer["error"]
    assert cluster.ask(keep, "add")["exit_code"] == 5
    status = cluster.ask(keep, "status")["ok"]
    assert status["cluster"]["quorum"] is False
    states = {peer["id"]: peer["state"] for peer in status["peers"]}
    assert states.pop(keep) == "alive"
    assert set(states.values()) == {"suspect"}, "nobody leads who could say that they are dead"


def test_a_request_whose_leader_dies_is_answered_and_may_be_repeated() -> None:
    cluster = grown(3)
    old = cluster.leader.name
    via = next(name for name in cluster.twins if name != old)
    ticket = Ticket(cluster.ask(via, "session")["ok"]["session"], 0, 0)
    cluster.send(via, "submit", id="once", ticket=ticket, **SUBMIT)
    cluster.hub.deliver()
    cluster.kill(old)
    cluster.until(lambda: "once" in cluster.replies, "an answer", 3.0)
    if cluster.replies.pop("once").get("exit_code") == 5:
        cluster.until(cluster.has_leader, "a leader")
        cluster.run(0.2)
        cluster.send(via, "submit", id="once", ticket=ticket, **SUBMIT)
        cluster.until(lambda: cluster.replies.get("once", {}).get("ok"), "the second time")
    assert list(cluster.leader.peer.state.jobs) == ["job-1"]


@pytest.mark.parametrize(
    ("verb", "args", "code", "said"),
    [
        ("frobnicate", {}, 2, "does not know the request"),
        ("pause", {"job": "nope"}, 2, "there is no job 'nope'"),
        ("pause", {}, 2, "malformed request"),
        ("remove", {"peer": "zz"}, 2, "not a peer of this cluster"),
        ("submit", {"task": "digits", "color": "red"}, 2, "no field 'color'"),
        ("submit", {"task": "digits", "shards": 0}, 2, "shards is 0"),
        ("submit", {"task": "digits", "peers_min": 3, "peers_max": 2}, 2, "--peers 3:2"),
        ("submit", {"task": "digits", "lr": "fast"}, 2, ""),
        ("events", {"since": float("inf")}, 2, "malformed request"),
        ("add", {"count": 99}, 2, "1 to 16"),
        ("fault", {"peer": "a", "kind": "kill"}, 4, "--allow-faults"),
        ("fault", {"peer": "a", "kind": "burn"}, 2, "not a fault"),
        ("join", {"member": {"id": "x"}}, 2, "malformed request"),
        ("join", {"member": [1]}, 2, "malformed request"),
        ("join", {"member": {**described("x"), "slots": "many"}}, 2, "slots"),
        ("submit", {"task": "digits", "data": "x" * COMMAND_BYTES_MAX}, 2, "too many for the log"),
    ],
)
def test_bad_requests_change_nothing(verb: str, args: dict[str, Any], code: int, said: str) -> None:
    cluster = grown(1)
    before = cluster.leader.peer.state
    answer = cluster.ask("a", verb, **args)
    assert answer["exit_code"] == code, answer
    assert said in answer["error"]
    after = cluster.leader.peer.state
    assert (after.members, after.jobs) == (before.members, before.jobs)


def test_faults_act_where_allowed_and_on_the_named_peer() -> None:
    cluster = grown(3, allow_faults=True)
    assert cluster.ask("a", "fault", peer="c", kind="pause", for_s=2.0)["ok"]["peer"] == "c"
    cluster.run(0.2)
    assert cluster.twins["c"].faults == [("pause", 2.0)]
    assert cluster.twins["a"].faults == []


def test_leadership_goes_where_it_is_told() -> None:
    cluster = grown(3)
    to = next(name for name in cluster.twins if name != cluster.leader.name)
    assert cluster.ask("a", "transfer", peer=to)["ok"] == {"schema": 1, "leader": to}
    cluster.until(lambda: cluster.has_leader() and cluster.leader.name == to, "the transfer", 3.0)


def test_planning_waits_while_leadership_is_on_its_way() -> None:
    """The core takes no proposals then; the planners must not trip over that."""
    cluster = submitted(3)
    to = next(name for name in cluster.twins if name != cluster.leader.name)
    cluster.isolate(to)
    old = cluster.leader
    old.peer.raft.transfer(to)
    old.peer.advance()
    assert old.peer.raft.status.lead_transferee == to
    cluster.kill(next(name for name in cluster.twins if name not in (to, old.name)))
    cluster.run(1.0)
    cluster.heal()
    runs_on(cluster, *sorted(cluster.twins))


# -- disks ---------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_peer_before_anything_is_acknowledged() -> None:
    cluster = grown(3)
    follower = next(twin for twin in cluster.live() if twin is not cluster.leader)
    follower.disk.fail(0, errno.ENOSPC)
    before = follower.disk.durable_view()
    leader = cluster.leader.peer
    leader.propose({"type": "leader.elected", "peer": "x", "term": 1})
    leader.advance()
    with pytest.raises(DiskFailed, match="no space left"):
        cluster.run(0.2)
    assert follower.disk.durable_view() == before
    assert leader.raft.status.progress[follower.name].match < leader.raft.status.last_index


def test_a_leader_with_a_full_disk_promises_nothing() -> None:
    cluster = grown(1)
    twin = cluster.leader
    twin.disk.fail(0, errno.ENOSPC)
    request = cluster.send("a", "submit", **SUBMIT)
    with pytest.raises(DiskFailed, match="no space left"):
        cluster.run(0.1)
    assert request not in cluster.replies
    assert twin.peer.state.jobs == {}


# -- malformed messages --------------------------------------------------------------------------


def fields(kind: str, body: Any, **changed: Any) -> bytes:
    values = {
        "version": PROTOCOL_VERSION,
        "cluster": CLUSTER,
        "sender": "b",
        "incarnation": "i2",
        "kind": kind,
        "body": body,
        **changed,
    }
    return bytes(msgpack.packb(list(values.values())))


RAFT = {"address": "127.0.0.1:9", "messages": []}
VITALS = {"b": [1, 1.0, False, {}]}
REPORT: dict[str, Any] = {
    "member": described("b"),
    "rss": 1,
    "cpu_percent": 0.0,
    "leaving": False,
    "trainers": [],
}
MALFORMED = [
    b"",
    b"\xc1",
    b"\x81\xa1a",
    bytes(ENVELOPE_BYTES_MAX + 1),
    fields("report", REPORT, cluster="other"),
    fields("report", REPORT, version=2),
    fields("report", REPORT, sender=7),
    fields("gossip", {}),
    fields("report", []),
    fields("report", {}),
    fields("report", {**REPORT, "rss": float("inf")}),
    fields("report", {**REPORT, "rss": float("nan")}),
    fields("report", {**REPORT, "member": {"id": "b"}}),
    fields("report", {**REPORT, "member": described("c")}),
    fields("report", {**REPORT, "trainers": 7}),
    fields("report", {**REPORT, "trainers": [{"child": "x", "job": "job-1", "phase": "ready"}]}),
    fields("digest", {"vitals": {"b": [1]}}, sender="a"),
    fields("digest", {"vitals": {"b": [float("inf"), 1.0, False, {}, "cpu", []]}}, sender="a"),
    fields("digest", {"vitals": {"b": [1, 1.0, False, {"job-1": 7}, "cpu", []]}}, sender="a"),
    fields("digest", {"vitals": {"b": [1, 1.0, False, {}, "cpu", [{"name": 7}]]}}, sender="a"),
    fields("raft", {}),
    fields("raft", {**RAFT, "address": "nowhere"}),
    fields("raft", {**RAFT, "address": None}),
    fields("raft", {**RAFT, "messages": 7}),
    fields("raft", {**RAFT, "messages": [["MsgApp"]]}),
    fields("request", {"id": 1, "verb": "status", "args": {}}, sender="client"),
    fields("request", {"id": "1", "verb": "status"}, sender="client"),
]


def test_malformed_messages_are_counted_and_dropped() -> None:
    cluster = grown(3)
    for twin in cluster.live():
        dropped = twin.peer.mail.dropped
        for data in MALFORMED:
            twin.peer.on_message(data, CLIENT.encode())
        extra = 3 if twin is cluster.leader or twin.name == "b" else 0
        assert twin.peer.mail.dropped - dropped >= len(MALFORMED) - 3 - extra
    cluster.run(1.0)
    assert "ok" in cluster.ask("a", "submit", **SUBMIT)


def test_messages_to_oneself_are_dropped() -> None:
    cluster = grown(3)
    peer = cluster.twins["a"].peer
    links = dict(cluster.twins["a"].network.links)
    heartbeat = Message(MessageType.HEARTBEAT, "a", "a", 99)
    for kind, body in [
        ("raft", {**RAFT, "messages": [heartbeat.to_wire()]}),
        ("report", {**REPORT, "member": described("a")}),
        ("digest", {"vitals": {}}),
    ]:
        peer.on_message(fields(kind, body, sender="a"), None)
    assert peer.mail.dropped == 3
    assert cluster.twins["a"].network.links == links
    assert peer.raft.status.term < 99


def test_a_message_for_somebody_else_is_not_stepped() -> None:
    cluster = grown(3)
    peer = cluster.twins["a"].peer
    address = cluster.twins["b"].network.address
    for told in (
        Message(MessageType.HEARTBEAT, "c", "b", 99),
        Message(MessageType.HEARTBEAT, "a", "c", 99),
    ):
        body = {"address": address, "messages": [told.to_wire()]}
        peer.on_message(fields("raft", body), None)
    assert peer.raft.status.term < 99


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
TRAINER: dict[str, Any] = {
    "child": "x",
    "job": "job-1",
    "phase": "ready",
    "checkpoints": [],
    **{name: {} for name in KEPT_MESSAGES},
    "ready": {"endpoints": {}, "steps_total": 4},
}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("raft", RAFT),
    ("raft", {**RAFT, "messages": [Message(MessageType.HEARTBEAT, "a", "b", 1).to_wire()]}),
    ("report", REPORT),
    ("report", {**REPORT, "trainers": [TRAINER]}),
    ("digest", {"vitals": VITALS}),
    ("request", {"id": "r", "verb": "status", "args": {}}),
    ("request", {"id": "r", "verb": "submit", "args": {"task": "digits"}}),
    ("request", {"id": "r", "verb": "job", "args": {"job": "job-1"}}),
    ("request", {"id": "r", "verb": "join", "args": {"member": described("z")}}),
    ("reply", {"id": "r", "ok": {}}),
]


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Raw bytes, or an envelope with one thing in it replaced."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=64))
    kind, body = draw(st.sampled_from(BODIES))
    body = replaced(draw, body)
    sender = draw(st.sampled_from(["a", "b", "c", "client", ""]))
    kind = draw(st.sampled_from([kind, kind, kind, *sorted(KINDS)]))
    return encode(Envelope(CLUSTER, sender, "i2", kind, body))


def replaced(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one part, at any depth, replaced or left out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {key: part for key, part in value.items() if key != name}
        return {**value, name: replaced(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], replaced(draw, value[place]), *value[place + 1 :]]
    return draw(ANYTHING)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(envelopes(), min_size=1, max_size=15))
def test_whatever_arrives_nothing_raises(messages: list[bytes]) -> None:
    cluster = grown(1)
    cluster.ask("a", "submit", **SUBMIT)
    peer = cluster.leader.peer
    member = {"type": "member.join", "member": described("b")}
    peer.propose(member)
    peer.advance()
    for data in messages:
        peer.on_message(data, CLIENT.encode())
        cluster.hub.queue.clear()
    cluster.clock.advance(0.1)
    peer.on_tick()
    assert "ok" in cluster.ask("a", "status")


# -- batches -------------------------------------------------------------------------------------


def test_all_that_waits_is_synced_at_once_and_sent_at_once() -> None:
    """One sync and one append for many proposals; the followers sync all of it once as well."""
    cluster = grown(3)
    synced: list[str] = []
    for twin in cluster.live():
        watch_syncs(twin, synced)
    for number in range(20):
        cluster.send(cluster.leader.name, "put", key=f"k{number}", value=b"v")
    cluster.until(lambda: len(cluster.replies) >= 20, "20 answers")
    assert sorted(synced) == ["a", "b", "c"]
    cluster.until(cluster.agreed, "agreement")
    assert all(len(twin.peer.state.store) == 20 for twin in cluster.live())


def watch_syncs(twin: Twin, synced: list[str]) -> None:
    save = twin.peer.parts.store.save

    def counted(hard_state: Any, entries: Any, must_sync: bool) -> None:
        if must_sync:
            synced.append(twin.name)
        save(hard_state, entries, must_sync)

    twin.peer.parts.store.save = counted  # type: ignore[method-assign]


def test_the_others_have_it_before_the_leader_syncs() -> None:
    """So that their disks work beside its own."""
    cluster = grown(3)
    leader = cluster.leader
    queued: list[int] = []
    save = leader.peer.parts.store.save

    def looked(hard_state: Any, entries: Any, must_sync: bool) -> None:
        queued.append(len(cluster.hub.queue))
        save(hard_state, entries, must_sync)

    leader.peer.parts.store.save = looked  # type: ignore[method-assign]
    leader.peer.propose({"type": "store.put", "key": "k", "value": b"v"})
    assert not cluster.hub.queue
    leader.peer.advance()
    assert queued[0] == 2


def test_a_peer_counts_what_it_does() -> None:
    cluster = grown(3)
    before = cluster.ask("a", "stats")["ok"]
    assert "ok" in cluster.ask("a", "put", key="k", value=b"v" * 64)
    after = cluster.ask("a", "stats")["ok"]
    assert before["leads"]
    assert after["syncs"] == before["syncs"] + 1
    assert after["applied_index"] == before["applied_index"] + 1
    # The append to each, their answers, the request and its answer; and the questions themselves.
    assert after["messages_sent"] - before["messages_sent"] >= 4
    assert after["messages_received"] - before["messages_received"] >= 4
    assert after["bytes_sent"] - before["bytes_sent"] >= 2 * 64
