"""Strategy and codec of a job: what may be set, and how the cluster goes over to it."""

from collections.abc import Mapping
from typing import Any

import pytest

from p2p import view
from p2p.agent import generation_message
from p2p.control.controller import plan
from p2p.errors import P2PError, Usage
from p2p.proposals import PROPOSED
from p2p.replicated.apply import apply
from p2p.replicated.reader import from_chunks
from p2p.replicated.state import State
from p2p.replicated.wire import to_chunks
from p2p.training.method import Method, changed, check, submitted
from p2p.training.strategies import catalog
from p2p.training.strategies.catalog import Entry, Option
from tests.peer_fakes import (
    applied,
    founded,
    generation,
    observed,
    report,
    running,
    trainer,
    with_job,
)

OTHER = Entry(
    *("other", "nowhere", "Other", "for tests"),
    (
        Option("size", 8, "a whole number", least=1),
        Option("rate", 0.5, "a number", least=0.0, most=1.0),
        Option("kind", "one", "a name", choices=("one", "two")),
    ),
)


@pytest.fixture(autouse=True)
def _other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.STRATEGIES, "other", OTHER)


def to(state: State, **changes: str) -> State:
    return applied(state, PROPOSED["set"](state, {"job": "job-1", "changes": changes}))


@pytest.mark.parametrize("name", ["ring"])
def test_every_strategy_that_is_listed_is_there(name: str) -> None:
    assert catalog.find(name).load().__name__ == catalog.find(name).class_name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing to set"),
        ({"strategy": "star"}, "no strategy 'star': there is ring"),
        ({"codec": "fp4"}, "no codec 'fp4': there is int32"),
        ({"size": "8"}, "size cannot be set while the strategy is ring: there is strategy, codec"),
        ({"strategy": "other", "size": "0"}, "size is '0': it must be a whole number from 1"),
        ({"strategy": "other", "size": "1.5"}, "size is '1.5': it must be a whole number"),
        ({"strategy": "other", "rate": "2"}, "rate is '2': it must be a number from 0 to 1"),
        ({"strategy": "other", "rate": "nan"}, "rate is 'nan'"),
        ({"strategy": "other", "kind": "three"}, "kind is 'three': there is one, two"),
        ({"epochs": "3"}, "epochs cannot be set"),
        ({"strategy": "x" * 400}, "at most 300 characters"),
    ],
)
def test_what_cannot_be_set_is_refused_in_a_sentence(changes: Mapping[str, str], said: str) -> None:
    with pytest.raises(Usage, match=said):
        PROPOSED["set"](running("a"), {"job": "job-1", "changes": changes})


def test_a_job_that_has_ended_or_is_not_there_cannot_be_set() -> None:
    ended = applied(running("a"), {"type": "job.cancel", "job": "job-1"})
    command = PROPOSED["set"](ended, {"job": "job-1", "changes": {"strategy": "other"}})
    assert apply(ended, command) == (ended, {"error": "run is cancelled already", "exit_code": 1})
    with pytest.raises(P2PError, match="there is no job"):
        PROPOSED["set"](ended, {"job": "nosuch", "changes": {"strategy": "other"}})


def test_options_stay_and_the_revision_counts() -> None:
    method = changed(submitted("ring", "int32", {"mine": "1"}), {"strategy": "other"}, 12)
    method = changed(method, {"size": "3", "rate": "0.1"}, 12)
    again = Method("other", "int32", {"mine": "1", "size": "3", "rate": "0.1"}, 2)
    assert method == Method(*again.to_order().values(), "size set to 3, rate set to 0.1")  # type: ignore[arg-type]
    assert catalog.find("other").parse(method.options) == {"size": 3, "rate": 0.1, "kind": "one"}
    with pytest.raises(Usage, match="size is '-1'"):
        check(submitted("other", "int32", {"size": "-1"}), 12)


def test_auto_begins_somewhere_and_ends_when_the_user_decides() -> None:
    method = submitted("auto", "int32", None)
    assert (method.strategy, method.auto) == ("ring", True)
    assert not changed(method, {"strategy": "other"}, 12).auto
    back = changed(changed(method, {"strategy": "other"}, 12), {"strategy": "auto"}, 12)
    assert (back.strategy, back.auto) == ("other", True)
    assert changed(back, {"size": "2"}, 12).auto


def test_what_is_set_makes_a_new_generation_of_the_same_members() -> None:
    state = running("a", "b")
    seen = observed(report("a", trainer("a")), report("b", trainer("b")))
    assert plan(state, seen) == []
    state = to(state, strategy="other", size="3")
    (command,) = plan(state, seen)
    assert (command["type"], command["number"]) == ("job.generation", 2)
    assert command["reason"] == "strategy set to other, size set to 3"
    assert [seat["peer"] for seat in command["seats"]] == ["a", "b"]
    before = view.job_detail(state.jobs["job-1"], {})
    state = applied(state, command)
    assert plan(state, seen) == []
    assert state.events[-2].text == "run has strategy set to other, size set to 3"
    told = generation_message(state.jobs["job-1"], "a")["method"]
    assert told == {
        "strategy": "other",
        "codec": "int32",
        "options": {"size": "3"},
        "revision": 1,
        "auto": False,
    }
    after = view.job_detail(state.jobs["job-1"], {})
    assert (before["strategy"], after["strategy"]) == ("ring", "other")
    assert [made["strategy"] for made in after["generations"]] == ["ring", "other"]
    assert after["options"] == {"size": "3"}


def test_a_method_that_fails_to_make_a_step_can_be_changed_again() -> None:
    state = to(running("a"), strategy="other")
    seen = observed(report("a", trainer("a")))
    state = applied(state, *plan(state, seen))
    state = to(state, strategy="ring")
    assert [command["type"] for command in plan(state, seen)] == ["job.generation"]


def test_setting_what_is_so_already_changes_nothing() -> None:
    state = to(running("a"), strategy="other")
    assert to(state, strategy="other") == state


def test_two_at_once_do_not_undo_each_other() -> None:
    state = running("a")
    first, second = (
        PROPOSED["set"](state, {"job": "job-1", "changes": change})
        for change in ({"strategy": "other"}, {"strategy": "ring", "codec": "int32"})
    )
    state = applied(state, first)
    assert apply(state, second) == (
        state,
        {
            "error": "run was set otherwise meanwhile (strategy set to other): try again",
            "exit_code": 1,
        },
    )


def test_a_queued_or_paused_job_begins_with_it() -> None:
    state = to(with_job(running("a"), "a"), strategy="other")
    queued = applied(state, {**generation(1, "a"), "job": "job-2"})
    assert queued.jobs["job-2"].method.strategy == "ring"
    paused = applied(running("a"), {"type": "job.pause", "job": "job-1"})
    seen = observed(report("a", trainer("a")))
    set_ = to(paused, strategy="other")
    assert plan(set_, seen) == []
    resumed = applied(set_, {"type": "job.resume", "job": "job-1"})
    (command,) = plan(resumed, seen)
    assert applied(resumed, command).jobs["job-1"].generations[-1].method.strategy == "other"


def test_it_is_in_snapshots_and_older_ones_can_be_read() -> None:
    plain = running("a", "b")
    assert b"set" not in b"".join(to_chunks(plain)), "older peers can read what was never set"
    assert from_chunks(to_chunks(plain)) == plain
    state = applied(to(plain, strategy="other", size="3"), generation(2, "a", "b"))
    assert from_chunks(to_chunks(state)) == state
    assert state.jobs["job-1"].generations[0].method.strategy == "ring"


def test_a_trainer_reads_it_from_the_order() -> None:
    state = applied(to(running("a"), strategy="other"), generation(2, "a"))
    message: dict[str, Any] = generation_message(state.jobs["job-1"], "a")
    assert Method.from_order(message["method"]) == Method("other", "int32", {}, 1)


def refusing(number: int) -> Any:
    told = {"generation": number, "error": "other needs what is not there"}
    return observed(report("a", trainer("a", refused=told)))


def test_a_method_that_a_trainer_refuses_is_set_back_to_the_last_that_made_a_step() -> None:
    state = applied(to(running("a"), strategy="other", size="3"), generation(2, "a"))
    assert plan(state, refusing(1)) == [], "of another generation"
    (command,) = plan(state, refusing(2))
    assert command["reason"] == (
        "set back: other with int32 cannot be: other needs what is not there"
    )
    state = applied(state, command)
    method = state.jobs["job-1"].method
    assert (method.strategy, method.options, method.revision) == ("ring", {}, 2)
    (command,) = plan(state, refusing(2))
    assert command["type"] == "job.generation"
    state = applied(state, command)
    assert plan(state, refusing(2)) == []


def test_a_method_that_never_made_a_step_fails_the_job_when_it_is_refused() -> None:
    state = applied(with_job(founded("a"), "a"), generation(1, "a"))
    (command,) = plan(state, refusing(1))
    assert command == {
        "type": "job.fail",
        "job": "job-1",
        "reason": "other needs what is not there",
    }
