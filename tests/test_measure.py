"""Measuring: the catalog, histories that keep peaks in bounds, pings, what is told and asked."""

import math
import re
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from p2p import digest
from p2p.errors import Usage
from p2p.measure import told
from p2p.measure.catalog import CATALOG, find
from p2p.measure.commits import CommitTimer
from p2p.measure.history import KEPT, RESOLUTIONS_S, Histories, Summary, Tier
from p2p.measure.jobs import JobFigures, checkpoint_figures
from p2p.measure.pings import EVERY_S, LOST_AFTER_S, PINGS_PER_S, Pings
from p2p.measure.system import HostSystem, MemorySystem
from p2p.reports import ReplicaReport, parse_report
from p2p.training.blame import TaskFailed
from p2p.training.figures import NAMES_MAX, Figures
from p2p.verbs.export import parse_since
from p2p.view import Vitals
from p2p.wire.envelope import Malformed
from tests.peer_fakes import report
from tests.peer_twins import TwinCluster

UNITS = {
    "percent": "_percent",
    "bytes": "_bytes",
    "bytes/s": "bytes_per_s",
    "s": "_s",
    "samples/s": "samples_per_s",
    "1/s": "_per_s",
    "C": "_c",
    "W": "_w",
}


def real(name: str) -> str:
    return re.sub(r"<\w+>", "x1", name)


def test_every_metric_has_a_name_a_unit_and_a_meaning() -> None:
    names = [metric.name for metric in CATALOG]
    assert len(set(names)) == len(names)
    for metric in CATALOG:
        assert metric.meaning, metric
        assert find(real(metric.name)) == metric, "no other metric's pattern takes it first"
        if metric.unit:
            assert metric.name.endswith(UNITS[metric.unit]), metric


@pytest.mark.parametrize("name", ["", "system", "system.cpu", "job.loss", "x" * 1000, "gpu.0.x"])
def test_what_is_no_metric(name: str) -> None:
    assert find(name) is None


# -- histories -------------------------------------------------------------------------------------

NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
SAMPLES = st.lists(st.tuples(st.floats(0.0, 40.0), NUMBERS), max_size=200)


@given(samples=SAMPLES, kept=st.integers(2, 50), apart_s=st.sampled_from([1, 10]))
@example(samples=[(0.0, 1.0), (0.0, -1.0), (5.0, 0.0)], kept=2, apart_s=1)
def test_no_peak_is_lost_and_memory_is_bounded(
    samples: list[tuple[float, float]], kept: int, apart_s: int
) -> None:
    """`samples`: seconds since the one before, and a value."""
    tier, now_s, said = Tier(apart_s, kept), 0.0, []
    for wait_s, value in samples:
        now_s += wait_s
        tier.add(now_s, Summary.of(value))
        said.append((now_s, value))
        assert len(tier) <= kept
        assert tier.bytes_kept <= kept * 20
    points = tier.points(-math.inf)
    assert all(one.at_s < other.at_s for one, other in pairwise(points))
    oldest_s = points[0].at_s if points else 0.0
    for point in points:
        mine = [value for at_s, value in said if at_s // apart_s * apart_s == point.at_s]
        assert point.low == pytest.approx(min(mine), rel=1e-6)
        assert point.high == pytest.approx(max(mine), rel=1e-6)
        assert point.last == pytest.approx(mine[-1], rel=1e-6)
        assert point.low <= point.mean <= point.high
    times = {at_s // apart_s * apart_s for at_s, _ in said if at_s >= oldest_s}
    assert {point.at_s for point in points} == times, "whatever is kept has no holes"


@given(
    steps=st.lists(st.tuples(st.floats(-50.0, 50.0), NUMBERS), max_size=60),
    since_s=st.floats(-10.0, 200.0),
)
def test_time_never_goes_back(steps: list[tuple[float, float]], since_s: float) -> None:
    tier, now_s = Tier(10, 6), 100.0
    for change_s, value in steps:
        now_s += change_s
        tier.add(now_s, Summary.of(value))
    points = tier.points(-math.inf)
    assert all(one.at_s < other.at_s for one, other in pairwise(points))
    assert tier.points(since_s) == [point for point in points if point.at_s + 10 > since_s]


def test_a_peak_of_one_sample_is_in_both_resolutions() -> None:
    histories = Histories()
    for tenth in range(6_000):
        histories.record("raft.term", tenth / 10, 99.0 if tenth == 1_234 else 1.0)
    for resolution_s in RESOLUTIONS_S:
        points = histories.points("raft.term", resolution_s, 0.0)
        assert len(points) == 600 // resolution_s
        (peak,) = [point for point in points if point.high == 99.0]
        assert peak.at_s <= 123.4 < peak.at_s + resolution_s
        assert peak.low == peak.last == 1.0
    assert histories.points("raft.term", 1, 599.5)[0].at_s == 599.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_what_is_not_finite_is_no_measurement(value: float) -> None:
    histories = Histories()
    histories.record("raft.term", 0.0, value)
    assert len(histories) == 0


def test_the_oldest_series_makes_room_but_none_in_use() -> None:
    histories = Histories(series_max=3)
    for number in range(3):
        histories.record(f"job.job-{number}.loss", number, 1.0)
    histories.record("job.job-3.loss", 10.0, 1.0)
    assert (len(histories), histories.refused) == (3, 1)
    histories.record("job.job-3.loss", 60.5, 1.0)
    assert histories.matching(["*"]) == [f"job.job-{number}.loss" for number in (1, 2, 3)]
    assert histories.matching(["*.job-2.*", "*3*"]) == ["job.job-2.loss", "job.job-3.loss"]
    assert histories.latest(60.0) == {"job.job-3.loss": 1.0}


def test_six_hours_of_a_peer_among_64_fit_into_14_mb() -> None:
    full = 256 * sum(KEPT.values()) * 20
    assert full <= 14.2e6
    tier = Tier(1, KEPT[1])
    for second in range(2_000):
        tier.add(second, Summary.of(7.0))
    assert tier.bytes_kept == (KEPT[1] - 1) * 8, "one number per point, where that says it all"


# -- links, commits, jobs ----------------------------------------------------------------------


def test_pings_measure_the_way_and_the_other_s_clock() -> None:
    pings = Pings("a")
    (id_,) = pings.due(["b"], 2, 10.0, 5_000.0).values()
    assert pings.due(["b"], 2, 10.5, 5_000.5) == {}
    pong = pings.on_reply({"id": id_, "ok": {"at": 5_002.1}}, 10.2)
    assert pong is not None
    assert pong.peer == "b"
    assert (pong.round_trip_s, pong.clock_skew_s) == pytest.approx((0.2, 2.0))
    assert pings.figures()["link.worst_round_trip_s"] == pytest.approx(0.2)
    assert pings.figures()["link.worst_clock_skew_s"] == pytest.approx(2.0)
    assert pings.on_reply({"id": id_}, 10.3) is None, "answered twice"
    (id_,) = pings.due(["b"], 2, 10.0 + EVERY_S, 0.0).values()
    older = pings.on_reply({"id": id_, "error": "does not know it"}, 11.5)
    assert older is not None
    assert older.clock_skew_s is None


def test_lost_pings_and_broken_links_are_counted() -> None:
    pings = Pings("a")
    pings.on_link("b", True)
    pings.due(["b", "c"], 3, 0.0, 0.0)
    again = pings.due(["b", "c"], 3, LOST_AFTER_S, 0.0)
    assert pings.figures()["link.worst_loss_percent"] == 100.0
    pings.on_reply({"id": again["c"]}, 3.1)
    assert pings.figures()["link.c.loss_percent"] == 50.0
    assert "link.worst_round_trip_s" in pings.figures()
    pings.on_link("c", False)
    assert "link.worst_round_trip_s" not in pings.figures(), "no link has a round trip"
    pings.on_link("b", False)
    pings.on_link("b", True)
    assert pings.figures()["link.b.reconnects"] == pings.figures()["link.all_reconnects"] == 1.0
    pings.due(["c"], 2, 20.0, 0.0)
    assert "link.b.reconnects" not in pings.figures(), "linked no more"


def test_pings_stay_few_among_many() -> None:
    pings, others = Pings("a"), [f"p{number:03}" for number in range(200)]
    sent = sum(len(pings.due(others, 200, second / 2, 0.0)) for second in range(60))
    assert sent <= 30 * 2 * PINGS_PER_S
    asked = {peer for second in range(60, 120) for peer in pings.due(others, 200, second / 2, 0.0)}
    assert asked == set(others)


def test_commit_latency_follows_one_command_at_a_time() -> None:
    timer = CommitTimer()
    timer.proposed(5, 1.0)
    timer.proposed(6, 1.1)
    assert timer.applied(4, 1.2) is None
    assert timer.applied(5, 1.25) == 0.25
    assert timer.applied(6, 1.3) is None
    timer.proposed(7, 2.0)
    assert timer.applied(9, 3.0) is None, "a snapshot went past it"


def progress(step: int, **fields: Any) -> dict[str, Any]:
    base = {"kind": "progress", "generation": 1, "step": step, "samples_per_second": 10.0}
    return {**base, "loss": 0.5, "bytes_per_step": 100, "compression": None, **fields}


def test_what_trainers_say_becomes_figures() -> None:
    jobs = JobFigures()
    first = jobs.heard("job-1", progress(4), 1.0)
    assert first == {"job.job-1.step": 4, "job.job-1.samples_per_s": 10}
    assert jobs.heard("job-1", progress(8), 3.0)["job.job-1.wire_bytes_per_s"] == 200.0
    again = jobs.heard("job-1", progress(6, generation=2), 4.0)
    assert "job.job-1.wire_bytes_per_s" not in again
    entered = {"kind": "entered", "stall_s": 0.25}
    assert jobs.heard("job-1", entered, 5.0) == {"job.job-1.stall_s": 0.25}
    part = {"number": 0, "bytes": 100, "seconds": 0.5}
    assert checkpoint_figures({"parts": [part]}) == {
        "checkpoint.bytes_per_s": 200.0,
        "checkpoint.write_s": 0.5,
    }
    assert checkpoint_figures({"parts": [{**part, "seconds": 0.0}]}) == {}


SOUND = [0.0, 9.0, 3.0, 2.0, 5]


@pytest.mark.parametrize(
    "numbers",
    [SOUND[:4], [*SOUND, 1], "x", [None] * 5, [math.nan] * 5, [9, 0, 3, 2, 5], [10**400] * 5],
)
def test_figures_that_are_none_are_left_out(numbers: Any) -> None:
    told = {"kind": "figures", "figures": {"loss": numbers, "step_s": SOUND, "nothing": SOUND}}
    found = JobFigures().heard("job-1", told, 0.0)
    assert found == {"job.job-1.step_s": Summary(0.0, 9.0, 3.0, 2.0, 5)}


def test_a_task_cannot_fill_the_memory_with_names() -> None:
    jobs = JobFigures()
    many = {f"metric.x{number}": SOUND for number in range(1_000)}
    assert len(jobs.heard("job-1", {"kind": "figures", "figures": many}, 0.0)) == 64
    assert not jobs.heard("job-1", {"kind": "figures", "figures": {"loss": SOUND}}, 1.0)
    assert jobs.heard("job-2", {"kind": "figures", "figures": {"loss": SOUND}}, 1.0)


def test_a_trainer_sums_up_between_two_reports() -> None:
    figures = Figures()
    for loss in (1.0, 9.0, math.nan, 2.0):
        figures.add("loss", loss)
    figures.add_metric("words", torch.tensor(3))
    assert figures.take() == {"loss": [1.0, 9.0, 4.0, 2.0, 3], "metric.words": [3.0] * 4 + [1]}
    assert figures.take() == {}
    for number in range(100):
        figures.add_metric(f"x{number}", 1)
    assert len(figures.take()) == NAMES_MAX - 1
    figures.gradient_norm(torch.tensor([3.0, 4.0]))
    figures.gradient_norm(torch.tensor([30.0, 40.0]))
    assert figures.take() == {"gradient_norm": [5.0] * 4 + [1]}, "now and then"


@pytest.mark.parametrize(
    ("name", "value"), [("", 1), (7, 1), ("x" * 65, 1), ("x", "y"), ("x", [1])]
)
def test_what_is_no_metric_of_a_task_is_said(name: Any, value: Any) -> None:
    with pytest.raises(TaskFailed, match=r"add_metric\(.*(no name|not one number)"):
        Figures().add_metric(name, value)


# -- told and asked ----------------------------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(value=ODD)
def test_figures_are_trimmed_to_what_they_may_be(value: Any) -> None:
    figures = told.parse_figures(value)
    assert all(math.isfinite(number) for number in figures.values())
    wire = report("a").to_wire()
    assert parse_report({**wire, "figures": value}).figures == figures
    for table in (value, {"names": value, "rows": {"a": value}}):
        parsed = digest.parse({"vitals": {}, "figures": table})
        assert parsed == {}
        told.parse_table(table)


def test_a_report_has_64_figures_at_most_and_older_peers_have_none() -> None:
    many = {f"raft.x{number}": 1.0 for number in range(1_000)}
    assert len(told.parse_figures(many)) == told.FIGURES_MAX
    wire = report("a").to_wire()
    del wire["figures"]
    assert parse_report(wire).figures == {}
    assert digest.parse({"vitals": digest.to_wire({"a": Vitals(1)})["vitals"]}) == {"a": Vitals(1)}


MODEL = {"name": "tales", "digest": "sha256:0", "parameters": 1, "bytes": 4, "context": 8}
REPLICA = ReplicaReport("child", "serve-1", 1, "ready", MODEL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": {}},
        {"model": {**MODEL, "bytes": "4"}},
        {"model": {**MODEL, "name": "x" * 301}},
        {"child": "x" * 301},
        {"crashed": {"child": "x" * 301, "error": "", "count": 1, "again_s": 0.0}},
    ],
)
def test_what_the_log_would_refuse_of_a_replica_is_no_report(wrong: dict[str, Any]) -> None:
    """The leader would propose it again and again."""
    wire = report("a").to_wire()
    assert parse_report({**wire, "replicas": [asdict(REPLICA)]}).replicas == (REPLICA,)
    with pytest.raises(Malformed):
        parse_report({**wire, "replicas": [{**asdict(REPLICA), **wrong}]})


def test_a_digest_has_every_name_once() -> None:
    vitals = {"a": Vitals(1, figures={"x": 1.0, "y": 2.0}), "b": Vitals(2, figures={"y": 3.0})}
    wire = digest.to_wire(vitals)
    assert wire["figures"] == {"names": ["x", "y"], "rows": {"a": [1.0, 2.0], "b": [None, 3.0]}}
    assert digest.parse(wire) == vitals
    crowd = {f"p{number}": Vitals(figures={"x": 1.0}) for number in range(told.PEERS_MAX + 1)}
    assert digest.to_wire(crowd)["figures"]["rows"] == {}


def test_latest_has_what_older_peers_tell_as_well() -> None:
    progress = {"step": 7, "loss": None, "samples_per_second": 3.0}
    gpu = {"utilization": None, "memory_used": 5}
    vitals = Vitals(1, 2.5, trainers={"job-1": progress}, gpus=(gpu,))
    assert told.latest({"a": vitals})["a"] == {
        "process.rss_bytes": 1.0,
        "process.cpu_percent": 2.5,
        "gpu.0.memory_bytes": 5.0,
        "job.job-1.step": 7.0,
        "job.job-1.samples_per_s": 3.0,
    }


@pytest.fixture
def measured() -> TwinCluster:
    """Three peers that measure, for ten seconds."""
    twins = TwinCluster(system=MemorySystem(cpu_percent=12.5))
    twins.found("a")
    twins.join("b")
    twins.join("c")
    twins.run(10.0)
    return twins


def test_any_peer_answers_for_any(measured: TwinCluster) -> None:
    leader = measured.leader.name
    one, other = (name for name in "abc" if name != leader)
    for peer in (None, one, other, leader):
        answer = measured.ask(one, "metrics", peer=peer, names=["system.*", "raft.term"])["ok"]
        assert answer["peer"] == (peer or one)
        assert answer["series"].keys() == {"system.cpu_percent", "raft.term"}
        assert answer["resolution"] == 10, "without since: as far back as there is"
    fine = measured.ask(one, "metrics", since=answer["at"] - 5.0, names=["system.cpu_percent"])
    points = fine["ok"]["series"]["system.cpu_percent"]["points"]
    assert fine["ok"]["resolution"] == 1
    assert 4 <= len(points) <= 6
    assert points[-1][1:] == [12.5] * 4
    assert abs(points[-1][0] - fine["ok"]["at"]) < 2.0
    trips = measured.ask(leader, "metrics", names=["link.*.round_trip_s"])["ok"]["series"]
    assert trips.keys() == {f"link.{one}.round_trip_s", f"link.{other}.round_trip_s"}
    assert "raft.commit_latency_s" in measured.ask(leader, "metrics")["ok"]["series"]


def test_everybody_knows_the_latest_of_all(measured: TwinCluster) -> None:
    for name in "abc":
        newest = measured.ask(name, "metrics", latest=True)["ok"]["latest"]
        assert newest.keys() == {"a", "b", "c"}
        for figures in newest.values():
            assert figures["system.cpu_percent"] == 12.5
            assert figures["raft.term"] >= 1.0
            assert all((metric := find(told)) and metric.told for told in figures)


def test_a_malformed_question_gets_a_sentence(measured: TwinCluster) -> None:
    odd: tuple[dict[str, Any], ...] = (
        *({"names": "x"}, {"names": [7]}, {"names": ["*"] * 65}, {"since": "now"}),
        *({"since": math.nan}, {"resolution": 5}, {"resolution": [1]}, {"peer": "nobody"}),
    )
    for bad in odd:
        answer = measured.ask("a", "metrics", **bad)
        assert answer["exit_code"] == Usage.exit_code, bad
        assert "is" in answer["error"]


def test_the_host_tells_what_it_has(tmp_path: Any) -> None:
    system = HostSystem(str(tmp_path))
    system.read(1.0)
    found = system.read(2.0)
    assert all(find(name) is not None for name in found)
    assert 0 < found["system.disk_free_bytes"] <= found["system.disk_total_bytes"]
    assert 0 < found["system.memory_bytes"] < found["system.memory_total_bytes"]


@pytest.mark.parametrize(
    ("text", "at"),
    [("90s", 910.0), ("1.5m", 910.0), ("12", 12.0), ("1970-01-01T00:00:07+00:00", 7.0)],
)
def test_since_is_a_time_or_how_long_ago(text: str, at: float) -> None:
    assert parse_since(text, 1_000.0) == at


@pytest.mark.parametrize("text", ["yesterday", "", "-5", "10y", "nan"])
def test_since_that_is_no_time(text: str) -> None:
    with pytest.raises(Usage, match="no time"):
        parse_since(text, 1_000.0)
