"""Each rule as a table: what it sees, and of whom it says what."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from p2p.replicated.state import State
from p2p.view import Vitals
from p2p.watch.facts import SEVERITIES, Facts, stretches
from p2p.watch.health import OF
from p2p.watch.rules import BUILT_IN
from tests.peer_fakes import applied, founded, generation, running
from tests.watch_facts import dead, facts, job_with_marks, raft, training, with_events
from tools.sim.trainers import agreed_checkpoint

RULES = {rule.name: rule for rule in BUILT_IN}
TRIO = founded("a", "b", "c")
PAIR = running("a", "b")


def flat(value: float, count: int = 60) -> list[float]:
    return [value] * count


def recovering() -> State:
    wait = {"type": "job.wait", "job": "job-1", "reason": "waits for b"}
    return applied(PAIR, wait)


def lost(times: int, ago_s: float) -> State:
    return with_events(TRIO, *[("peer-dead", ago_s, "t", "b", None)] * times)


def crashed(times: int) -> State:
    return with_events(PAIR, *[("trainer-crashed", 9.0, "t", "b", "job-1")] * times)


def unequal(text: str, kind: str = "job-excludes", ago_s: float = 9.0) -> State:
    return with_events(PAIR, (kind, ago_s, text, "b", "job-1"))


def clocks(**ahead_s: float) -> Facts:
    """As a sees the others'."""
    seen = {f"link.{peer}.clock_skew_s": skew_s for peer, skew_s in ahead_s.items()}
    state = founded("a", *ahead_s)
    return facts(state, raft=raft(*state.members, leader="b"), latest={"a": seen})


def unfinished_save() -> State:
    failed = {"type": "job.checkpoint_failed", "job": "job-1", "generation": 1, "step": 8}
    return applied(PAIR, {**failed, "error": "the disk is full", "peer": "b"})


def disk(free: float) -> Facts:
    return facts(latest={"b": {"system.disk_free_bytes": free}})


def gpu(metric: str, value: float) -> Facts:
    return facts(latest={"b": {f"gpu.1.{metric}": value}})


def losses(*values: float) -> Facts:
    """Each for ten marks."""
    spread = [value for value in values for _ in range(10)]
    return facts(job_with_marks(spread, flat(100.0, len(spread))))


def speeds(now: float, count: int = 60) -> Facts:
    return facts(job_with_marks(flat(1.0, count), [*flat(100.0, count - 11), *flat(now, 11)]))


# rule, what it sees, of whom it is found (peer or job), and a part of the sentence
Case = tuple[str, Callable[[], Facts], list[str], str]
CASES: list[Case] = [
    ("no-quorum", facts, [], ""),
    ("no-quorum", lambda: facts(raft=raft(*"abc", quorum=False)), [""], "no quorum"),
    (
        "no-quorum",
        lambda: facts(dead(TRIO, "b", "c"), raft=raft(*"abc", quorum=False)),
        [""],
        "start name-b, name-c again",
    ),
    ("quorum-margin", facts, [], ""),
    ("quorum-margin", lambda: facts(dead(TRIO, "c")), [""], "2 of 3 voters answer; name-c"),
    ("quorum-margin", lambda: facts(vitals={"c": Vitals(suspect=True)}), [""], "one failure"),
    ("quorum-margin", lambda: facts(founded("a")), [], ""),
    ("quorum-margin", lambda: facts(founded(*"abcde")), [], ""),
    ("quorum-margin", lambda: facts(dead(founded(*"abcde"), "d")), [], ""),
    ("quorum-margin", lambda: facts(dead(founded(*"abcde"), "d", "e")), [""], "3 of 5"),
    ("peer-dead", facts, [], ""),
    ("peer-dead", lambda: facts(dead(TRIO, "b")), ["b"], "name-b is dead"),
    ("peer-dead", lambda: facts(applied(TRIO, {"type": "member.leave", "peer": "b"})), [], ""),
    ("peer-flapping", lambda: facts(lost(2, 9.0)), [], ""),
    ("peer-flapping", lambda: facts(lost(3, 9.0)), ["b"], "lost 3 times in 5 minutes"),
    ("peer-flapping", lambda: facts(lost(3, 301.0)), [], ""),
    ("clock-skew", lambda: clocks(b=0.1, c=-0.5), [], ""),
    ("clock-skew", lambda: clocks(b=0.1, c=5.0), ["c"], "name-c is 4.9 s ahead"),
    ("clock-skew", lambda: clocks(b=-5.0, c=-5.1), ["a"], "name-a is 5.0 s ahead"),
    ("clock-skew", lambda: clocks(b=5.0), ["a"], "name-a is 5.0 s behind"),
    ("commit-latency", lambda: facts(latest={"a": {"raft.commit_latency_s": 0.2}}), [], ""),
    ("commit-latency", lambda: facts(latest={"a": {"raft.commit_latency_s": 0.3}}), ["a"], "300"),
    ("straggler", lambda: facts(PAIR, vitals=training(a=0.1)), [], ""),
    ("straggler", lambda: facts(PAIR, vitals=training(a=0.1, b=0.14)), [], ""),
    ("straggler", lambda: facts(PAIR, vitals=training(a=0.1, b=0.21)), ["b"], "2.1 times slower"),
    ("straggler", lambda: facts(PAIR, vitals=training(a=0.0, b=0.0)), [], ""),
    ("straggler", lambda: facts(TRIO, vitals=training(a=0.1, b=0.9)), [], ""),
    ("loss-not-finite", lambda: facts(PAIR), [], ""),
    (
        "loss-not-finite",
        lambda: facts(PAIR, latest={p: {"job.job-1.skipped_steps": 3.0} for p in "ab"}),
        ["job-1"],
        "3 steps in a row",
    ),
    ("loss-not-finite", lambda: losses(1.0, math.nan), ["job-1"], "NaN"),
    ("loss-rising", lambda: losses(2.0, 1.0, 0.5), [], ""),
    ("loss-rising", lambda: losses(2.0, 0.5, 0.9), ["job-1"], "0.9 now against 0.5"),
    ("loss-rising", lambda: losses(2.0, 0.5, 0.7), [], ""),
    ("loss-rising", lambda: losses(2.0, 0.001, 0.05), [], "noise near zero"),
    ("loss-rising", lambda: losses(2.0, math.nan, 0.5), [], ""),
    ("loss-rising", lambda: losses(-3.0, -4.0, -1.0), ["job-1"], "-1 now against -4"),
    ("throughput-down", lambda: speeds(80.0), [], ""),
    ("throughput-down", lambda: speeds(60.0), ["job-1"], "40% less"),
    ("throughput-down", lambda: speeds(60.0, count=20), [], "too little to say"),
    ("checkpoint-old", lambda: facts(job_with_marks(flat(1.0), flat(1.0), 15.0)), [], ""),
    (
        "checkpoint-old",
        lambda: facts(job_with_marks(flat(1.0), flat(1.0), 16.0)),
        ["job-1"],
        "there is none yet",
    ),
    ("checkpoint-old", lambda: facts(job_with_marks([1.0] * 3, [1.0] * 3, 9e9)), [], "a pause"),
    ("checkpoint-failed", lambda: facts(unfinished_save()), ["job-1"], "step 8"),
    (
        "checkpoint-failed",
        lambda: facts(applied(unfinished_save(), agreed_checkpoint("a", 9))),
        [],
        "",
    ),
    ("job-stuck", lambda: facts(PAIR), [], ""),
    ("job-stuck", lambda: facts(recovering()), ["job-1"], "waits for b"),
    ("trainer-crashing", lambda: facts(crashed(2)), [], ""),
    ("trainer-crashing", lambda: facts(crashed(3)), ["b"], "keeps dying"),
    ("parity-broken", lambda: facts(unequal("b is slow")), [], ""),
    ("parity-broken", lambda: facts(unequal("run: b has other weights than")), ["b"], "parity"),
    ("parity-broken", lambda: facts(unequal("have different weights", "job-failed")), ["b"], ""),
    ("parity-broken", lambda: facts(unequal("b has other weights", ago_s=601)), [], ""),
    ("disk-full", lambda: disk(3e9), [], ""),
    ("disk-full", lambda: disk(1.5e9), ["b"], "1.5 GB are free, 2.0 GB should be"),
    ("gpu-hot", lambda: gpu("temperature_c", 84.0), [], ""),
    ("gpu-hot", lambda: gpu("temperature_c", 86.0), ["b"], "GPU 1 of name-b has 86"),
    ("gpu-throttled", lambda: gpu("throttled", 0.0), [], ""),
    ("gpu-throttled", lambda: gpu("throttled", 1.0), ["b"], "held back"),
]


@pytest.mark.parametrize(("rule", "seen", "whom", "said"), CASES)
def test_what_a_rule_finds(
    rule: str, seen: Callable[[], Facts], whom: list[str], said: str
) -> None:
    told = RULES[rule]
    found = list(told.check(seen(), told.threshold))
    assert [each.peer or each.job or "" for each in found] == whom, found
    assert all(said in each.text for each in found), found
    assert all(math.isfinite(each.value) for each in found)


def test_every_rule_is_in_the_table() -> None:
    assert {case[0] for case in CASES} == RULES.keys()


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_rules_are_complete(rule: object) -> None:
    from p2p.watch.rule import Rule

    assert isinstance(rule, Rule)
    assert rule.severity in SEVERITIES
    assert rule.part in OF
    assert rule.command
    assert rule.meaning
    assert rule.clear_s > 0


@pytest.mark.parametrize("rule", [rule for rule in BUILT_IN if rule.clear != rule.threshold])
def test_what_raises_also_holds(rule: object) -> None:
    """Hysteresis the wrong way round would flicker at once."""
    from p2p.watch.rule import Rule

    assert isinstance(rule, Rule)
    for name, seen, _, _ in CASES:
        if name == rule.name:
            raised = {rule.id_of(each) for each in rule.check(seen(), rule.threshold)}
            assert raised <= {rule.id_of(each) for each in rule.check(seen(), rule.clear)}


def test_marks_belong_to_the_generation_they_were_made_in() -> None:
    state = job_with_marks(flat(1.0, 9), flat(1.0, 9))
    again = {"type": "job.entered", "job": "job-1", "generation": 2, "start_step": 6}
    again |= {"stall_s": 0.1, "steps_repeated": 0}
    state = applied(state, generation(2, "a"), again)
    made = stretches(state.jobs["job-1"])
    assert [[mark.step for mark in each.marks] for each in made] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9],
    ]
    unborn = applied(state, generation(3, "a", "b"))
    assert len(stretches(unborn.jobs["job-1"])) == 2
    assert stretches(replace(state.jobs["job-1"], generations=())) == []
