"""Sentences that cite metric, value and limit, and name a command: as a table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2p.replicated.state import Generation, Job, Seat, State
from p2p.watch import insights, scaling
from p2p.watch.alerting import Alert
from p2p.watch.facts import Facts
from p2p.watch.rule import Finding
from p2p.watch.rules import BUILT_IN
from tests.peer_fakes import founded, running, with_job
from tests.watch_facts import dead, facts, job_with_marks, raft, training

TRIO, PAIR = founded("a", "b", "c"), running("a", "b")
WELL = running("a", "b", "c")


def told(seen: Facts, *firing: Alert) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = insights.to_wire(seen, firing)["insights"]
    return found


def steps(**seconds: float) -> dict[str, dict[str, float]]:
    values = {f"job.job-1.{name}": value for name, value in seconds.items()}
    return dict.fromkeys("abc", values)


def trained_with(speeds: dict[int, float], base: State = WELL) -> State:
    """A job that made ten marks with so many trainers each, one after the other."""
    every = [speed for speed in speeds.values() for _ in range(10)]
    state = job_with_marks([1.0] * len(every), every)
    job = state.jobs["job-1"]
    made = [
        Generation(number, _seats(count), "r", job.method, start_step=(number - 1) * 10)
        for number, count in enumerate(speeds, 1)
    ]
    job = replace(job, generations=tuple(made))
    return replace(base, jobs={"job-1": job})


def _seats(count: int) -> tuple[Seat, ...]:
    return tuple(Seat("abc"[n], f"child-{n}", {}, n, n + 1) for n in range(count))


# what is seen, a part of the sentence, metric, value, command
CASES: list[tuple[Callable[[], Facts], str, str, float, str]] = [
    (
        lambda: facts(founded("a")),
        "only name-a votes (raft.voters 1, 3 would be safe)",
        "raft.voters",
        1.0,
        "p2pnode add 2",
    ),
    (
        lambda: facts(dead(TRIO, "c")),
        "no voter may fail now (raft.spare_voters 0, 1 would be safe), for name-c",
        "raft.spare_voters",
        0.0,
        "p2pnode add",
    ),
    (
        lambda: facts(WELL, vitals=training(a=0.1, b=0.1, c=0.21)),
        "name-c is 2.1 times slower than the median in run (job.job-1.compute_s per shard 0.210 s",
        "job.job-1.compute_s",
        2.1,
        "p2pnode remove name-c",
    ),
    (
        lambda: facts(WELL, latest=steps(step_s=0.1, barrier_s=0.07)),
        "run spends 70% of a step in the exchange (job.job-1.barrier_s 0.0700 s of 0.1000 s",
        "job.job-1.barrier_s",
        0.7,
        "p2pnode set job-1 strategy=auto",
    ),
    (
        lambda: facts(WELL, latest={"b": {"system.cpu_percent": 97.0}}),
        "3 trainers of run share here, whose cores are all busy (system.cpu_percent 97, limit 95)",
        "system.cpu_percent",
        97.0,
        "p2pnode peers",
    ),
    (
        lambda: facts(latest={"b": {"process.loop_lag_s": 0.4}}),
        "name-b comes late to its own ticks (process.loop_lag_s 0.40 s, limit 0.25 s)",
        "process.loop_lag_s",
        0.4,
        "p2pnode events --for-peer name-b",
    ),
    (
        lambda: facts(with_job(TRIO, peers_min=5)),
        "run waits for 5 peers that train (job.job-1.peers 3, limit 5): 2 more",
        "job.job-1.peers",
        3.0,
        "p2pnode add 2",
    ),
    (
        lambda: facts(trained_with({1: 100.0, 2: 190.0, 3: 270.0})),
        "270 samples/s with 3 trainers, 2.70 times what 1 made (100): efficiency 90%, limit 70%",
        "job.job-1.samples_per_s",
        0.9,
        "p2pnode add",
    ),
    (
        lambda: facts(trained_with({1: 100.0, 3: 150.0})),
        "efficiency 50%",
        "job.job-1.samples_per_s",
        0.5,
        "p2pnode set job-1 strategy=auto",
    ),
]


@pytest.mark.parametrize(("seen", "said", "metric", "value", "command"), CASES)
def test_insights(
    seen: Callable[[], Facts], said: str, metric: str, value: float, command: str
) -> None:
    (one,) = told(seen())
    assert said in one["text"]
    assert (one["metric"], one["command"]) == (metric, command)
    assert one["value"] == pytest.approx(value)
    assert metric in one["text"] or metric.endswith("samples_per_s")


@pytest.mark.parametrize(
    "seen",
    [
        facts,
        lambda: facts(WELL, vitals=training(a=0.1, b=0.1, c=0.12)),
        lambda: facts(WELL, latest=steps(step_s=0.1, barrier_s=0.02)),
        lambda: facts(raft=raft(*"abc", quorum=False)),
    ],
)
def test_where_all_is_well_there_is_nothing_to_say(seen: Callable[[], Facts]) -> None:
    assert told(seen()) == []


def test_what_removing_a_slow_peer_would_cost_or_gain() -> None:
    """Twelve shards, four each: with 0.21 s a shard, c alone makes a round 0.84 s long; without it
    a and b need six times 0.1 s."""
    (slow,) = told(facts(WELL, vitals=training(a=0.1, b=0.1, c=0.21)))
    assert "it has 4 of 12 shards; without it the job would gain 40% in speed" in slow["text"]
    assert slow["severity"] == "warning"
    (useful,) = told(facts(WELL, vitals=training(a=0.1, b=0.1, c=0.14)))
    assert "would cost 7% in speed" in useful["text"]
    assert useful["severity"] == "info"


def test_alerts_say_which_command_helps() -> None:
    rules = {rule.name: rule for rule in BUILT_IN}
    old = Finding("old", "job.job-1.checkpoint_age_s", 1000.0, job="job-1")
    alert = Alert("x", rules["checkpoint-old"], old, 1.0, 1.0, (1.0,))
    (one,) = told(facts(WELL), alert)
    assert one["text"] == "old (job.job-1.checkpoint_age_s 1000, limit 900)"
    assert one["command"] == "p2pnode checkpoint job-1"


def test_scaling_is_measured_over_jobs_of_a_kind_and_needs_enough_of_it() -> None:
    state = trained_with({2: 190.0, 3: 270.0})
    alone = _alone(state.jobs["job-1"], 100.0)
    other = replace(alone, id="job-3", spec={**alone.spec, "task": "other"})
    jobs = [alone, other, state.jobs["job-1"]]
    told = scaling.measured(jobs)
    assert [job.id for job, _ in told] == ["job-1", "job-3"]
    speeds = told[0][1]
    assert [(s.trainers, round(s.efficiency, 2)) for s in speeds] == [(1, 1.0), (2, 0.95), (3, 0.9)]
    for others in (jobs[2:], [alone, *jobs[2:] * scaling.JOBS_MAX]):  # those before do not count
        assert [s.base for s in scaling.measured(others)[0][1]] == [2, 2]
    short = replace(alone, marks=alone.marks[:4])
    assert scaling.measured([short]) == [(short, [])]


def _alone(job: Job, speed: float) -> Job:
    made = trained_with({1: speed}).jobs["job-1"]
    return replace(made, id="job-2", state="finished", spec=job.spec)


def test_the_answer_has_the_speeds() -> None:
    answer = insights.to_wire(facts(trained_with({1: 100.0, 2: 150.0})), ())
    assert answer["scaling"] == [
        {
            "job": "job-1",
            "name": "run",
            "speeds": [
                {"trainers": 1, "samples_per_second": 100.0, "base": 1, "efficiency": 1.0},
                {"trainers": 2, "samples_per_second": 150.0, "base": 1, "efficiency": 0.75},
            ],
        }
    ]
    assert PAIR.jobs["job-1"].marks == ()
    assert insights.to_wire(facts(PAIR), ())["scaling"] == []
