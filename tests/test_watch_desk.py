"""Peers that judge, on in-memory twins: who tells whom, what is agreed, what survives."""

from typing import Any

import pytest

from p2p.watch.desk import SETTLED_S
from p2p.watch.notify import MemoryNotify
from tests.peer_twins import Twin, TwinCluster, grown


def notices(twin: Twin) -> list[tuple[Any, Any]]:
    notify = twin.peer.parts.notify
    assert isinstance(notify, MemoryNotify)
    return [(told["rule"], told["state"]) for told in notify.told]


def firing(cluster: TwinCluster, name: str) -> dict[str, dict[str, Any]]:
    told = cluster.ask(name, "alerts")["ok"]["alerts"]
    return {alert["id"]: alert for alert in told if alert["resolved_at"] is None}


def events(cluster: TwinCluster, name: str, **wanted: Any) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = cluster.ask(name, "events", **wanted)["ok"]["events"]
    return told


def leader_and_others(cluster: TwinCluster) -> tuple[str, list[str]]:
    leader = cluster.leader.name
    return leader, [twin.name for twin in cluster.live() if twin.name != leader]


def test_a_lost_voter_is_told_of_by_all_and_notified_by_one() -> None:
    cluster = grown(3)
    leader, (other, victim) = leader_and_others(cluster)
    disk = cluster.kill(victim)
    cluster.until(lambda: "quorum-margin" in firing(cluster, other), "an alert")
    cluster.until(lambda: f"peer-dead/{victim}" in firing(cluster, leader), "another")
    alert = firing(cluster, other)["quorum-margin"]
    assert "one failure from losing quorum" in alert["text"]
    cluster.run(1.5)
    assert sorted(notices(cluster.twins[leader])) == [
        ("peer-dead", "firing"),
        ("quorum-margin", "firing"),
    ]
    assert notices(cluster.twins[other]) == []
    score = cluster.ask(other, "health")["ok"]["cluster"]["score"]
    assert score < 80
    said = cluster.ask(other, "insights")["ok"]["insights"]
    assert any("no voter may fail now" in one["text"] for one in said)

    cluster.join(victim, disk)
    cluster.until(lambda: not firing(cluster, other), "all over")
    cluster.until(lambda: not firing(cluster, leader), "everywhere")
    told = [(e["kind"], e["severity"], e["peer"]) for e in events(cluster, other, text="over")]
    assert set(told) >= {("alert", "info", None), ("alert", "info", victim)}
    assert len(events(cluster, other, text="is over after")) == 2
    assert len(notices(cluster.twins[leader])) == 4
    assert cluster.ask(leader, "health")["ok"]["cluster"]["score"] == 100


def test_what_was_acknowledged_survives_the_leader_and_ends_with_the_alert() -> None:
    cluster = grown(5)
    leader, others = leader_and_others(cluster)
    disk, victim = cluster.kill(others[0]), others[0]
    id_ = f"peer-dead/{victim}"
    cluster.until(lambda: id_ in firing(cluster, others[1]), "an alert")
    assert not firing(cluster, others[1])[id_]["acknowledged"]
    assert "ok" in cluster.ask(others[1], "alert.acknowledge", alert=id_)
    cluster.kill(leader)
    cluster.until(cluster.has_leader, "another leader")
    cluster.run(SETTLED_S + 1)
    assert firing(cluster, others[2])[id_]["acknowledged"]
    cluster.join(victim, disk)
    cluster.until(lambda: id_ not in firing(cluster, others[2]), "over")
    cluster.until(lambda: not cluster.leader.peer.state.acknowledged, "forgotten")


@pytest.mark.parametrize("alert", [None, "", 7, "x" * 999])
def test_no_alert_is_acknowledged_by_nonsense(alert: Any) -> None:
    cluster = grown(1)
    answer = cluster.ask("a", "alert.acknowledge", alert=alert)
    assert answer["exit_code"] == 2
    assert "p2pnode alerts" in answer["error"]


def test_without_a_leader_every_peer_tells() -> None:
    cluster = grown(3)
    leader, others = leader_and_others(cluster)
    for name in others:
        cluster.kill(name)
    cluster.until(lambda: "no-quorum" in firing(cluster, leader), "an alert")
    assert ("no-quorum", "firing") in notices(cluster.twins[leader])
    parts = cluster.ask(leader, "health")["ok"]["cluster"]["parts"]
    assert {part["name"]: part["points"] for part in parts}["agreement"] == 0


def test_who_starts_again_alone_says_that_there_is_no_quorum() -> None:
    cluster = grown(3)
    disks = {name: cluster.kill(name) for name in ("a", "b", "c")}
    cluster.start("b", disks["b"])
    cluster.until(lambda: "no-quorum" in firing(cluster, "b"), "an alert")


def test_drills_are_events() -> None:
    cluster = grown(3, allow_faults=True)
    leader, (other, third) = leader_and_others(cluster)
    for name, kind in ((leader, "pause"), (other, "crash-trainer"), (third, "heal")):
        assert "ok" in cluster.ask(leader, "fault", peer=name, kind=kind)
    cluster.until(lambda: len(events(cluster, other, text="drill")) == 3, "three events")
    told = {e["peer"]: (e["kind"], e["severity"], e["text"]) for e in events(cluster, other)[-3:]}
    assert told[leader] == ("fault", "warning", f"a drill: pause name-{leader} for 5 s")
    assert told[other] == ("fault", "warning", f"a drill: crash-trainer name-{other}")
    assert told[third] == ("fault", "info", f"a drill ends at name-{third}")


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "leader"}, {"severity": "bad"}, {"text": 7}, {"peer": []}, {"text": "x" * 9999}],
)
def test_an_event_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    cluster = grown(1)
    event = {"kind": "fault", "severity": "info", "text": "t", "peer": None, "job": None}
    assert cluster.ask("a", "event.tell", **{**event, **wrong})["exit_code"] == 2
    assert events(cluster, "a", text="drill") == []


def test_events_are_filtered() -> None:
    cluster = grown(3)
    cluster.kill("c")
    cluster.until(lambda: events(cluster, "a", level="warning", peer="c"), "c is dead")
    assert {event["kind"] for event in events(cluster, "a", level="warning")} >= {"peer-dead"}
    joined = events(cluster, "a", peer="name-c", text="JOINED")
    assert [event["kind"] for event in joined] == ["peer-joined"]
    assert events(cluster, "a", peer="c", since=joined[0]["index"], text="joined") == []
    assert events(cluster, "a", level="error") == []
    assert {event["kind"] for event in events(cluster, "a", text="voters")} == {"voters"}
    for wrong in ({"level": "bad"}, {"peer": "nobody"}, {"job": "none"}):
        assert cluster.ask("a", "events", **wrong)["exit_code"] == 2
    cluster.ask("a", "remove", peer="c")
    assert events(cluster, "a", peer="c"), "who was removed is still there by its id"
