"""The score and its parts, as a table; and what adds up for whatever fires."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.view import Vitals
from p2p.watch import health
from p2p.watch.alerting import Alert, Alerting, step
from p2p.watch.facts import Facts
from p2p.watch.rule import Finding, Rule
from p2p.watch.rules import BUILT_IN
from tests.peer_fakes import applied, founded, running
from tests.watch_facts import dead, facts, raft, training

TRIO = founded("a", "b", "c")
PAIR = running("a", "b")


def firing(seen: Facts) -> list[Alert]:
    """What fires when this has lasted."""
    patient = [Rule(**{**_fields(rule), "for_s": 0.0}) for rule in BUILT_IN]
    return step(Alerting(), patient, seen)[0].firing


def _fields(rule: Rule) -> dict[str, object]:
    return {name: getattr(rule, name) for name in Rule.__dataclass_fields__}


def left(*peers: str) -> Facts:
    return facts(applied(TRIO, *({"type": "member.leave", "peer": peer} for peer in peers)))


# what is so, then points of agreement, training, peers, machines, and the score of b
CASES: list[tuple[str, Callable[[], Facts], tuple[int, int, int, int], int]] = [
    ("all well", facts, (40, 30, 15, 15), 100),
    ("one of three is dead", lambda: facts(dead(TRIO, "b")), (20, 30, 10, 15), 0),
    ("one is silent", lambda: facts(vitals={"b": Vitals(suspect=True)}), (20, 30, 10, 15), 80),
    ("one has left", lambda: left("b"), (40, 30, 15, 15), 0),
    (
        "no quorum, two dead, a job",
        lambda: facts(dead(running(*"abc"), "b", "c"), raft=raft(*"abc", quorum=False)),
        (0, 0, 5, 15),
        0,
    ),
    ("a straggler", lambda: facts(PAIR, vitals=training(a=0.1, b=0.5)), (40, 15, 15, 15), 85),
    (
        "skipped steps",
        lambda: facts(PAIR, latest={"b": {"job.job-1.skipped_steps": 2.0}}),
        (40, 0, 15, 15),
        100,
    ),
    (
        "a full disk",
        lambda: facts(latest={"b": {"system.disk_free_bytes": 1e6}}),
        (40, 30, 15, 8),
        85,
    ),
]


@pytest.mark.parametrize(("why", "seen", "points", "own"), CASES, ids=[case[0] for case in CASES])
def test_points(why: str, seen: Callable[[], Facts], points: tuple[int, ...], own: int) -> None:
    told = seen()
    if told.raft.voters and not told.state.jobs and why == "one has left":
        told = facts(told.state, raft=raft("a"))
    alerts = firing(told)
    answer = health.to_wire(told, alerts)
    found = {part["name"]: part["points"] for part in answer["cluster"]["parts"]}
    names = ("agreement", "training", "peers", "machines")
    assert tuple(found[name] for name in names) == points, answer
    assert answer["cluster"]["score"] == sum(points)
    assert {peer["id"]: peer["score"] for peer in answer["peers"]}["b"] == own, answer
    assert all(part["why"] for part in answer["cluster"]["parts"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(BUILT_IN), st.sampled_from([None, "a", "b", "c"]))))
def test_parts_add_up_whatever_fires(told: list[tuple[Rule, str | None]]) -> None:
    alerts = [
        Alert(f"{rule.name}/{peer}", rule, Finding("t", "m", 1.0, peer), 1.0, 1.0, (1.0,))
        for rule, peer in told
    ]
    answer = health.to_wire(facts(), alerts)
    for scored in (answer["cluster"], *answer["peers"]):
        assert sum(part["of"] for part in scored["parts"]) == 100
        assert scored["score"] == sum(part["points"] for part in scored["parts"])
        assert all(0 <= part["points"] <= part["of"] for part in scored["parts"])
    fewer = health.to_wire(facts(), alerts[:-1])
    assert answer["cluster"]["score"] <= fewer["cluster"]["score"]
