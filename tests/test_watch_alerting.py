"""The state machine of alerts: by example, and for any sequence of findings."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.watch.alerting import (
    BLIND_S,
    DAMPED_S,
    FLAPS_MAX,
    FLAPS_WITHIN_S,
    RESOLVED_MAX,
    Alerting,
    Change,
    step,
)
from p2p.watch.facts import Facts
from p2p.watch.rule import Finding, Rule
from tests.watch_facts import facts

FOR_S, CLEAR_S = 3.0, 4.0


def _above(seen: Facts, limit: float) -> Iterator[Finding]:
    for figure in seen.figures("x.*"):
        if figure.value > limit:
            yield Finding("x", figure.metric, figure.value, figure.peer, place=figure.metric)


HIGH = Rule(
    *("high", "warning", "machines", "x is high", _above),
    *(10.0, 5.0, FOR_S, CLEAR_S, "look"),
)


class Watched:
    """One metric, looked at second by second."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules or (HIGH,)
        self.now_s = 0.0
        self.alerting = Alerting()
        self.told: list[tuple[float, str]] = []

    def see(self, *values: float, after_s: float = 1.0) -> list[Change]:
        changes: list[Change] = []
        for value in values:
            self.now_s += after_s
            seen = facts(now_s=self.now_s, latest={"a": {"x.y": value}})
            self.alerting, changes = step(self.alerting, self.rules, seen)
            self.told += [(self.now_s, change.state) for change in changes]
        return changes


def test_it_fires_when_it_lasts_and_is_over_when_it_has_been_quiet() -> None:
    watched = Watched()
    watched.see(11, 11, 11)
    assert watched.told == []
    (fired,) = watched.see(12)
    assert (fired.state, fired.alert.since_s, fired.alert.found.value) == ("firing", 1.0, 12)
    watched.see(6, 6, 6, 6, 6, 6)
    assert watched.told == [(4.0, "firing")], "above the limit at which it is over"
    watched.see(1, 1, 1)
    assert len(watched.alerting.firing) == 1
    (over,) = watched.see(1)
    assert (over.state, over.alert.resolved_s) == ("resolved", 14.0)
    assert watched.alerting.firing == []
    assert list(watched.alerting.alerts) == ["high/a/x.y"], "it is remembered"


def test_a_blip_is_nothing_and_counts_from_anew() -> None:
    watched = Watched()
    watched.see(11, 11, 11, 1, 11, 11, 11)
    assert watched.told == []


def test_between_the_limits_nothing_begins() -> None:
    watched = Watched()
    watched.see(*[7] * 20)
    assert watched.told == []
    assert watched.alerting.pending == {}


def test_who_was_stopped_does_not_know_what_lasted() -> None:
    watched = Watched()
    watched.see(11, 11)
    watched.see(11, after_s=BLIND_S + 60)
    watched.see(11, 11)
    assert watched.told == []
    watched.see(11)
    assert len(watched.told) == 1


def test_one_that_flickers_is_told_a_few_times_and_then_stays() -> None:
    watched = Watched()
    on, off = [11.0] * 4, [1.0] * 5
    watched.see(*(on + off) * 20)
    assert [state for _, state in watched.told] == ["firing", "resolved"] * 2 + ["firing"]
    (alert,) = watched.alerting.firing
    assert alert.is_damped
    assert "comes and goes: 3 times" in alert.text
    watched.see(*[1.0] * round(DAMPED_S))
    assert watched.told[-1][1] == "resolved"


def test_a_rule_that_stumbles_is_told_of_and_the_others_go_on() -> None:
    def wrong(seen: Facts, limit: float) -> Iterator[Finding]:
        yield Finding("t", "m", float(len(seen.state.jobs["nobody's"].marks)))

    watched = Watched(Rule("wrong", "info", "peers", "m", wrong), HIGH)
    watched.see(11, 11, 11, 11)
    assert {alert.id for alert in watched.alerting.firing} == {"wrong/unjudged", "high/a/x.y"}
    assert "cannot be judged: KeyError" in watched.alerting.alerts["wrong/unjudged"].text


def test_a_storm_is_bounded() -> None:
    def many(seen: Facts, limit: float) -> Iterator[Finding]:
        first = int(seen.now_s) * 700
        for number in range(first, first + 700):
            yield Finding("t", "m", 1.0, place=str(number))

    watched = Watched(Rule("many", "info", "peers", "m", many, clear_s=1.0))
    watched.see(*[0.0] * 12)
    assert len(watched.alerting.firing) <= 500
    assert len(watched.alerting.alerts) <= 500 + RESOLVED_MAX


VALUES = st.lists(st.sampled_from([0.0, 7.0, 11.0]), max_size=300)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_for_any_sequence(values: list[float]) -> None:
    watched = Watched()
    for value in values:
        watched.see(value)
    states = [state for _, state in watched.told]
    assert states == (["firing", "resolved"] * len(states))[: len(states)], "in turns, once each"
    for at_s, state in watched.told:
        seen = values[: round(at_s)]
        if state == "firing":
            assert min(seen[-round(FOR_S) - 1 :]) > HIGH.threshold
        else:
            assert max(seen[-round(CLEAR_S) :]) <= HIGH.clear
    fired = [at_s for at_s, state in watched.told if state == "firing"]
    assert all(
        len([s for s in fired if at_s <= s < at_s + FLAPS_WITHIN_S])
        <= FLAPS_MAX + FLAPS_WITHIN_S / DAMPED_S
        for at_s in fired
    )


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_what_lasts_always_fires_and_quiet_always_ends_it(values: list[float]) -> None:
    watched = Watched()
    watched.see(*values)
    watched.see(*[11.0] * round(FOR_S + 2))
    assert len(watched.alerting.firing) == 1
    watched.see(*[0.0] * round(DAMPED_S + 2))
    assert watched.alerting.firing == []


@pytest.mark.parametrize("order", [1, -1])
def test_ids_do_not_depend_on_who_looks(order: int) -> None:
    """So that all peers can agree on what was acknowledged."""
    values = dict([("x.1", 11.0), ("x.2", 12.0)][::order])
    seen = facts(now_s=1.0, latest={"b": values})
    instant = Rule("high", "warning", "machines", "x is high", _above, 10.0)
    alerting, _ = step(Alerting(), (instant,), seen)
    assert sorted(alerting.alerts) == ["high/b/x.1", "high/b/x.2"]
