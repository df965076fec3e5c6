"""Scenarios: files read, what is waited for, what must hold, reports; one played by real peers."""

import asyncio
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from p2p.errors import P2PError, Usage
from p2p.local_cluster import LocalCluster
from p2p.scenarios import catalog, checks, news, report, scenario, stage
from p2p.scenarios.facts import BadCheck, Facts
from p2p.scenarios.lines import Lines
from p2p.scenarios.reading import read
from p2p.scenarios.waiting import Seen, missing
from tests.cluster_fixtures import p2pnode
from tui.views.names import NAMES as VIEWS

MINE = Path(__file__).parent / "scenario_quorum.toml"
CAPTION_MAX = 93  # with " DEMO " before it, on a screen of 100 columns
HEAD = 'why = "because"\npeers = 3\n'
STEP = '[[step]]\ndo = "restart"\npeers = ["a"]\nsays = "back"\n'
MUST = '[[must]]\ncheck = "terms"\nleast = 1\n'


@pytest.mark.parametrize("name", catalog.NAMES)
def test_every_scenario_can_be_played_as_far_as_its_file_says(name: str) -> None:
    (found,) = catalog.find(name)
    submitted = set()
    assert len(found.why) <= 120
    for step in found.steps:
        assert max(len(step.says), len(step.watch)) <= CAPTION_MAX, step.says
        assert step.view is None or step.view in VIEWS
        if isinstance(step.do, scenario.Submit | scenario.Restore):
            submitted.add(step.do.job if isinstance(step.do, scenario.Submit) else step.do.into)
            task = step.do.task if isinstance(step.do, scenario.Submit) else ""
            assert not task or (Path(found.folder) / task.partition(":")[0]).is_file()
        job = getattr(step.do, "job", None)
        assert job is None or job in submitted, step
    assert {check.job for check in found.must if hasattr(check, "job")} <= submitted


def test_all_are_played_in_the_order_of_the_list() -> None:
    assert tuple(one.name for one in catalog.find("all")) == catalog.NAMES
    files = (Path(catalog.__file__).parent).glob("*.toml")
    assert {file.stem for file in files} == set(catalog.NAMES)


@pytest.mark.parametrize(
    ("wait", "pace", "comes"),
    [
        (scenario.Wait(job="main", state="finished"), 1, True),
        (scenario.Wait(job="main", state="finished"), 0, False),
        (scenario.Wait(job="main", members=2), 1, False),
    ],
    ids=["slowly", "stands still", "other than steps"],
)
def test_a_job_that_goes_on_is_not_waited_for_in_vain(
    wait: scenario.Wait, pace: int, comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a machine has much else to do, a minute goes by between two looks."""
    minutes = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 60.0 * next(minutes))
    monkeypatch.setattr(stage, "time", clock)
    monkeypatch.setattr(stage, "ASK_EVERY_S", 0.0)

    class Playing(stage.Stage):
        def __init__(self) -> None:
            self._step = 0

        async def _job(self, action: scenario.Wait) -> dict[str, Any]:
            self._step += pace
            return {"step": self._step}

        async def _missing(self, action: scenario.Wait, first: Any, told: Any) -> str:
            return "" if told["step"] > 9 else "its end"

    playing = Playing().wait(wait)
    if comes:
        asyncio.run(playing)
    else:
        with pytest.raises(P2PError, match="waited 90 s in vain for its end"):
            asyncio.run(playing)


def test_more_peers_at_the_beginning_are_waited_for() -> None:
    (found,) = catalog.find("leader-failure")
    grown = found.with_peers(5)
    assert grown.peers == 5
    waits = [
        (old.do.members, new.do.members)
        for old, new in zip(found.steps, grown.steps, strict=True)
        if isinstance(old.do, scenario.Wait) and isinstance(new.do, scenario.Wait)
    ]
    assert waits == [(3, 5), (None, None), (3, 5), (None, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("why = ", "is no TOML"),
        ("colour = 1\n" + HEAD, "there is no 'colour'"),
        ("peers = 3\n" + STEP + MUST, "`why` is missing"),
        ('why = "x"\npeers = 99\n' + STEP + MUST, "from 1 to 9"),
        (HEAD + 'slots = "x"\n' + STEP + MUST, "`slots` must be a whole number"),
        (HEAD + STEP, "at least one"),
        (HEAD + "step = 1\n", "[[step]]"),
        (HEAD + STEP.replace("restart", "hope") + MUST, "step 1: do = 'hope': there is start"),
        (HEAD + STEP.replace('["a"]', '"a"') + MUST, "must be a list of texts, not 'a'"),
        (HEAD + STEP.replace('peers = ["a"]\n', "") + MUST, "restart needs `peers`"),
        (HEAD + STEP.replace('says = "back"\n', "") + MUST, "`says` is missing"),
        (HEAD + STEP + "colour = 1\n" + MUST, "restart has no 'colour', only peers"),
        (HEAD + STEP + MUST.replace("1", '"x"'), "must 1: terms: `least` must be a whole number"),
        (HEAD + STEP + MUST.replace("terms", "luck"), "must 1: check = 'luck'"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(Usage, match=r"mine\.toml") as raised:
        read(text, "mine", "mine.toml", ".")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_number_is_a_float_where_a_float_is_wanted() -> None:
    stall = '[[must]]\ncheck = "stall"\njob = "j"\nreason = "r"\nbelow = 2\n'
    made = read(HEAD + STEP + MUST + stall, "mine", "mine.toml", ".")
    assert made.must == (checks.Terms(1), checks.Stall("j", "r", 2), checks.OneLeader())


def told(**changes: Any) -> dict[str, Any]:
    first = {"number": 1, "members": ["p1", "p2"], "reason": "the job starts", "strategy": "ring"}
    second = {"number": 2, "members": ["p1"], "reason": "b was lost", "strategy": "ring"}
    return {
        "state": "finished",
        "reason": "",
        "step": 288,
        "steps_total": 288,
        "metrics": {"accuracy": 0.97},
        "members": ["p1"],
        "strategy": "ring",
        "state_hash": "sha256:1",
        "ledger": [{"epoch": 1, "repeated": 0, "missing": 0}],
        "generations": [{**first, "stall_seconds": None}, {**second, "stall_seconds": 0.4}],
        **changes,
    }


def facts(**changes: Any) -> Facts:
    return Facts(
        jobs={"main": told(**changes)},
        undisturbed={"main": told()},
        names={"p1": "a", "p2": "b", "p3": "c"},
        called={"victim": "p2"},
        leaders={2: {"p1"}, 3: {"p2"}},
        rates={"one": 100.0, "two": 180.0},
        writes={"good": None, "bad": "no quorum"},
        reads={"colour": "blue"},
        events=["a drill: kill b"],
        insights=["main makes 180 samples/s with 2 trainers: efficiency 90%"],
    )


LOST = "{victim} was lost"
NONE_MISSING = [{"epoch": 1, "repeated": 0, "missing": 3}]
HOLDS: list[tuple[Any, dict[str, Any], bool, str]] = [
    (checks.Finished("main"), {}, True, "finished at step 288 of 288"),
    (checks.Finished("main", 0.95), {}, True, "0.9700 (at least 0.95)"),
    (checks.Finished("main", 0.98), {}, False, "0.9700"),
    (checks.Finished("main"), {"state": "failed", "reason": "oh"}, False, "failed at step 288"),
    (checks.SameBits("main"), {}, True, "sha256:1"),
    (checks.SameBits("main"), {"state_hash": "sha256:2"}, False, "sha256:2"),
    (checks.SameBits("main"), {"state_hash": None}, False, "None"),
    (checks.ExactLedger("main"), {}, True, "repeated 0 and missed 0 samples in 1 epochs"),
    (checks.ExactLedger("main"), {"ledger": NONE_MISSING}, False, "missed 3"),
    (checks.ExactLedger("main"), {"ledger": []}, False, "0 epochs"),
    (checks.Generation("main", LOST), {}, True, "generation 2 of main: b was lost"),
    (checks.Generation("main", "c joined"), {}, False, "only: the job starts; b was lost"),
    (checks.Stall("main", LOST, "lease"), {}, True, "0.40 s when b was lost, bound 1.5 s (lease)"),
    (checks.Stall("main", LOST, 0.3), {}, False, "bound 0.3 s"),
    (checks.Stall("main", "the job starts", 1), {}, False, "no stall was measured"),
    (checks.Trained("main", "b"), {}, True, "generation 1 of main"),
    (checks.Trained("main", "victim"), {}, True, "generation 1"),
    (checks.Trained("main", "c"), {}, False, "c never trained"),
    (checks.Methods("main", ("ring",)), {}, True, "used ring"),
    (checks.Methods("main", ("ring", "robust")), {}, False, "expected ring, then robust"),
    (checks.OneLeader(), {}, True, "never two leaders of a term: term 2 a, term 3 b"),
    (checks.Terms(2), {}, True, "2 terms had a leader"),
    (checks.Terms(3), {}, False, "2 terms"),
    (checks.Refused("bad"), {}, True, "no quorum"),
    (checks.Refused("good"), {}, False, "was taken"),
    (checks.Taken("good"), {}, True, "was taken"),
    (checks.Taken("bad"), {}, False, "no quorum"),
    (checks.Value("colour", "blue"), {}, True, "'blue'"),
    (checks.Value("colour", "red"), {}, False, "expected 'red'"),
    (checks.Rate("two", "one", 1.5, 2), {}, True, "1.80 times one (100), efficiency 90%"),
    (checks.Rate("two", "one", 1.9), {}, False, "at least 1.9 times"),
    (checks.Happened("kill {victim}"), {}, True, "a drill: kill b"),
    (checks.Insight("with 2"), {}, True, "efficiency 90%"),
    (checks.Insight("with 3"), {}, False, "no insight says 'with 3'"),
    (checks.Happened("pause"), {}, False, "no event says 'pause'"),
]


@pytest.mark.parametrize(
    ("check", "changes", "holds", "said"), HOLDS, ids=[str(row[0]) for row in HOLDS]
)
def test_what_must_hold(check: Any, changes: dict[str, Any], holds: bool, said: str) -> None:
    ok, sentence = check.verdict(facts(**changes))
    assert ok is holds
    assert said in sentence


def test_two_leaders_of_a_term_are_found_out() -> None:
    seen = facts()
    seen.leaders[3] = {"p2", "p3"}
    assert checks.OneLeader().verdict(seen) == (False, "b and c both said that they lead term 3")
    assert not checks.OneLeader().verdict(Facts())[0]


@pytest.mark.parametrize(
    "check",
    [
        checks.Finished("other"),
        checks.Trained("main", "z"),
        checks.Stall("main", LOST, "hope"),
        checks.Refused("other"),
        checks.Value("other", ""),
        checks.Rate("three", "one", 1.0),
    ],
)
def test_what_a_scenario_never_made_is_said(check: Any) -> None:
    with pytest.raises(BadCheck):
        check.verdict(facts())


STATUS = {
    "cluster": {"leader": "p1"},
    "peers": [
        {"id": "p1", "name": "a", "state": "alive", "role": "leader"},
        {"id": "p2", "name": "b", "state": "dead", "role": "voter"},
    ],
}
RUNNING = told(state="running", step=100)


@pytest.mark.parametrize(
    ("wait", "lacks"),
    [
        (scenario.Wait("main", state="running", members=1, reason="b was lost"), ""),
        (scenario.Wait("main", share=0.3, steps=50), ""),
        (scenario.Wait("main", steps=51), "51 more steps"),
        (scenario.Wait("main", share=0.5), "50% of the steps"),
        (scenario.Wait("main", members=2), "2 trainers"),
        (scenario.Wait("main", reason="joined"), "because 'joined'"),
        (scenario.Wait("main", strategy="robust"), "to use robust"),
        (scenario.Wait(alive=1, leads="a", not_leads="b", event="kill"), ""),
        (scenario.Wait(voters=3), "3 living voters (there are 1)"),
        (scenario.Wait(alive=2), "2 living peers (there are 1)"),
        (scenario.Wait(leads="b"), "b to lead (a leads)"),
        (scenario.Wait(not_leads="a"), "another leader than a"),
        (scenario.Wait(insight="with 3 trainers"), "an insight that says 'with 3 trainers'"),
        (scenario.Wait(event="heal"), "an event that says 'heal'"),
    ],
)
def test_what_is_waited_for(wait: scenario.Wait, lacks: str) -> None:
    job = RUNNING if wait.job else None
    seen = Seen(job, {**RUNNING, "step": 50} if job else None, STATUS, ("a drill: kill b",))
    assert lacks in missing(wait, seen, str)
    assert bool(missing(wait, seen, str)) == bool(lacks)


def test_a_job_that_has_ended_is_not_waited_for() -> None:
    seen = Seen(told(), told(), STATUS, ())
    with pytest.raises(P2PError, match="main finished, before a generation of main"):
        missing(scenario.Wait("main", reason="joined"), seen, str)


def test_lines_say_every_tenth_of_a_job_and_all_else() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    lines.tell(news.Begins("x", "because", 1, 2, 3))
    for step in range(0, 101, 2):
        lines.tell(news.Progress("main", "running", step, 100, 3, 0.5, 0.9))
    lines.tell(news.Checked(False, "it broke"))
    lines.tell(news.Ends("x", False, "it broke"))
    assert said[0] == "\n== 1/2 x: because"
    assert len([line for line in said if "main: step" in line]) == 10
    assert said[-2:] == ["   NOT it broke", "== x FAILED: it broke"]


def test_a_report_that_cannot_be_written_is_said_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(P2PError, match="cannot write the report"):
        report.files(str(tmp_path / "no" / "such.json"))
    assert report.files("/dev/null") == [Path("/dev/null")]
    assert report.files(str(tmp_path / "a.xml")) == [tmp_path / "a.xml", tmp_path / "a.json"]


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_scenario_of_one_s_own_is_played_and_reported(short_path: Path) -> None:
    """The last thing that must hold does not: exit code 1, and a failure in both reports."""
    with LocalCluster() as nobody:
        out = short_path / "out.json"
        asked = ["demo", "--headless", "--scenario", str(MINE), "--report", str(out)]
        ended = p2pnode(nobody, *asked, TMPDIR=str(short_path))
    assert ended.code == 1, ended
    assert "scenario_quorum: NOT HELD" in ended.out
    assert "-- 4/9 The leader is cut off" in ended.err
    made = json.loads(out.read_text())
    (one,) = made["scenarios"]
    assert (made["ok"], one["ok"], one["error"]) == (False, False, None)
    assert [row["ok"] for row in one["checks"]] == [True, True, True, True, False, True]
    suite = ElementTree.parse(short_path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("7", "1")
    (failure,) = suite.iter("failure")
    assert "terms had a leader (at least 99)" in str(failure.get("message"))
    assert sorted(path.name for path in short_path.iterdir()) == ["out.json", "out.xml"]
