"""Whatever happens to a cluster of planners, it settles."""

from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.peer_fakes import (
    FakePeer,
    PlannedCluster,
    described,
    founded,
    spec,
)


def started(*peers: str, slots: int = 1, **fields: Any) -> PlannedCluster:
    cluster = PlannedCluster(founded(*peers, slots=slots))
    cluster.command({"type": "job.submit", "name": "run", "spec": spec(**fields)})
    cluster.settle()
    return cluster


def test_a_submitted_job_runs_and_ends() -> None:
    cluster = started("a", "b", "c")
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b", "c"))
    cluster.may_finish = True
    cluster.settle()
    assert cluster.job().state == "finished"
    assert not any(peer.trainers.started for peer in cluster.peers.values()), "all were stopped"


def test_a_killed_peer_comes_back_into_the_job() -> None:
    cluster = started("a", "b", "c")
    del cluster.peers["b"]
    cluster.settle()
    assert cluster.job().members == ("a", "c")
    cluster.peers["b"] = FakePeer(described("b", incarnation="2"))
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b", "c"))


def test_all_peers_lost_at_once_go_on_when_they_are_back() -> None:
    cluster = started("a", "b")
    cluster.peers.clear()
    cluster.settle()
    assert "waits for 1" in cluster.job().reason
    cluster.peers = {peer: FakePeer(described(peer, incarnation="2")) for peer in "ab"}
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b"))


def test_an_added_peer_goes_to_the_job_that_waits_for_one() -> None:
    cluster = started("a", "b")
    cluster.command({"type": "job.submit", "name": "next", "spec": spec()})
    cluster.settle()
    assert "`p2pnode add 1`" in cluster.job("job-2").reason
    cluster.command({"type": "member.join", "member": described("c")})
    cluster.peers["c"] = FakePeer(described("c"))
    cluster.settle()
    assert cluster.job("job-2").members == ("c",)


def test_a_peer_back_before_its_absence_mattered_leaves_the_job_running() -> None:
    """Below the minimum for a moment: the same trainers go on in a new generation."""
    cluster = started("a", "b", peers_min=2)
    away = cluster.peers.pop("b")
    cluster.settle()
    assert cluster.job().state == "recovering"
    cluster.peers["b"] = away
    cluster.settle()
    assert (cluster.job().state, cluster.job().members) == ("running", ("a", "b"))


def test_a_trainer_that_will_not_stop_is_killed() -> None:
    cluster = started("a", "b")
    cluster.stuck = set(cluster.peers["a"].trainers.started)
    cluster.command({"type": "job.cancel", "job": "job-1"})
    cluster.settle()
    assert not cluster.peers["a"].trainers.started


EVENTS = ("kill", "back", "add", "leave", "remove", "crash", "fail", "submit", "pause", "resume")
STEP = st.tuples(st.sampled_from(EVENTS), st.integers(0, 9), st.integers(0, 3))


@settings(max_examples=120, deadline=None)
@given(st.lists(STEP, max_size=14), st.integers(1, 3), st.integers(1, 2))
def test_whatever_happened_it_settles(events: list[Any], least: int, slots: int) -> None:
    cluster = started("a", "b", "c", slots=slots, peers_min=least)
    for kind, which, rounds in events:
        happen(cluster, kind, which)
        for _ in range(rounds):
            cluster.plan_once()
            cluster.act()
            cluster.play()
            cluster.now_s += 0.3
    note(f"before calm: {[(j.id, j.state, j.reason) for j in cluster.state.jobs.values()]}")
    cluster.settle()
    check_settled(cluster)
    for name in list(cluster.state.jobs):
        cluster.command({"type": "job.resume", "job": name})
    cluster.may_finish = True
    cluster.settle(200)
    for job in cluster.state.jobs.values():
        assert job.is_final or "waits for" in job.reason, job


def happen(cluster: PlannedCluster, kind: str, which: int) -> None:
    names = sorted(cluster.state.members)
    peer = names[which % len(names)]
    alive = cluster.peers.get(peer)
    job = sorted(cluster.state.jobs)[which % len(cluster.state.jobs)]
    match kind:
        case "kill":
            cluster.peers.pop(peer, None)
        case "back" if alive is None:
            slots = cluster.state.members[peer].slots
            again = described(peer, incarnation=f"again-{len(cluster.commands)}", slots=slots)
            cluster.peers[peer] = FakePeer(again)
        case "add":
            new = described(f"n{len(names)}-{len(cluster.commands)}")
            cluster.command({"type": "member.join", "member": new})
            cluster.peers[new["id"]] = FakePeer(new)
        case "leave" if alive is not None:
            alive.leaving = True
            cluster.command({"type": "member.leave", "peer": peer})
        case "remove" if len(names) > 1:
            cluster.command({"type": "member.remove", "peer": peer})
            cluster.peers.pop(peer, None)
        case "crash" | "fail" if alive is not None:
            hurt(cluster, alive, kind)
        case "submit" if len(cluster.state.jobs) < 3:
            cluster.command({"type": "job.submit", "name": "more", "spec": spec()})
        case "pause" | "resume":
            cluster.command({"type": f"job.{kind}", "job": job})


def hurt(cluster: PlannedCluster, peer: FakePeer, kind: str) -> None:
    for child in list(peer.trainers.started):
        if kind == "fail":
            failed = {"kind": "failed", "error": "OSError", "user_error": False}
            peer.desk.on_message(child, failed, 0.0)
        cluster.end(peer, child)


def check_settled(cluster: PlannedCluster) -> None:
    for job in cluster.state.jobs.values():
        if job.is_final or job.state == "paused" or "waits for" in job.reason:
            continue
        assert job.state == "running", job
        assert job.generation is not None
        for seat in job.generation.seats:
            assert seat.child in cluster.peers[seat.peer].trainers.started
            told = cluster.peers[seat.peer].trainers.told[seat.child][-1]
            assert (told["kind"], told.get("number")) == ("generation", job.generation.number)
