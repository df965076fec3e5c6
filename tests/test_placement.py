"""Which peers train which job: by free slots, minimum first, said why not."""

from typing import Any

import pytest

from p2p.control.placement import plan_assignments
from p2p.replicated.state import Member, State
from tests.peer_fakes import applied, founded, member, with_job


def placed(state: State, peers: dict[str, Member] | None = None) -> list[dict[str, Any]]:
    return list(plan_assignments(state, dict(state.members) if peers is None else peers))


def test_a_job_takes_every_free_slot_and_then_rests() -> None:
    state = with_job(founded("a", "b", "c"))
    (command,) = placed(state)
    assert command["peers"] == ["a", "b", "c"]
    assert command["reason"] == "starting on 3 of 3 peers"
    assert placed(applied(state, command)) == []


@pytest.mark.parametrize(
    ("fields", "peers"),
    [
        ({"peers_max": 2}, ["a", "b"]),
        ({"shards": 1}, ["a"]),
        ({"peers_min": 3, "peers_max": 3}, ["a", "b", "c"]),
        ({"peers_max": 99}, ["a", "b", "c"]),
    ],
)
def test_never_more_than_wanted_or_than_shards(fields: dict[str, Any], peers: list[str]) -> None:
    (command,) = placed(with_job(founded("a", "b", "c"), **fields))
    assert command["peers"] == peers


def test_the_emptiest_peers_come_first_and_slots_0_never() -> None:
    peers = {"a": member("a"), "b": member("b", slots=2), "c": member("c", slots=0)}
    (command,) = placed(with_job(founded("a")), peers)
    assert command["peers"] == ["b", "a"]


def test_too_few_peers_wait_and_say_what_helps_once() -> None:
    state = with_job(founded("a"), peers_min=3)
    (command,) = placed(state)
    assert command["reason"] == "waits for 3 peers with a free slot, 1 now: `p2pnode add 2`"
    assert placed(applied(state, command)) == []


def test_who_is_gone_loses_the_place_and_another_takes_it() -> None:
    state = with_job(founded("a", "b", "c"), "a", "b", peers_max=2)
    assert placed(state) == []
    (command,) = placed(state, {peer: member(peer) for peer in "ac"})
    assert command["peers"] == ["a", "c"]


def test_who_was_set_aside_is_not_taken_again() -> None:
    state = with_job(founded("a", "b"), "a", "b")
    aside = {"type": "job.assign", "job": "job-1", "peers": ["a"], "reason": ""}
    assert placed(applied(state, {**aside, "excluded": {"b": "full"}})) == []


def test_a_paused_job_keeps_its_slots_and_gets_no_new_ones() -> None:
    state = with_job(founded("a", "b"), "a")
    state = with_job(applied(state, {"type": "job.pause", "job": "job-1"}))
    (command,) = placed(state)
    assert (command["job"], command["peers"]) == ("job-2", ["b"])


def test_slots_are_shared_in_order_of_submission() -> None:
    state = with_job(with_job(founded("a", "b", slots=2)), peers_min=2)
    first, second = placed(state)
    assert (first["job"], first["peers"]) == ("job-1", ["a", "b"])
    assert (second["job"], second["peers"]) == ("job-2", ["a", "b"])


def test_the_job_that_lacks_its_minimum_comes_before_the_one_that_could_grow() -> None:
    state = with_job(founded("a", "b"), "a")
    (command,) = placed(with_job(state))
    assert (command["job"], command["peers"]) == ("job-2", ["b"])


def test_a_finished_job_frees_its_slots() -> None:
    state = with_job(with_job(founded("a"), "a"))
    assert placed(state)[0]["type"] == "job.wait"
    state = applied(state, {"type": "job.cancel", "job": "job-1"})
    (command,) = placed(state)
    assert (command["job"], command["peers"]) == ("job-2", ["a"])


def test_a_higher_priority_comes_first() -> None:
    state = with_job(with_job(founded("a", "b"), peers_max=2), peers_max=2, priority=1)
    (first, waits) = placed(state)
    assert (first["job"], first["peers"]) == ("job-2", ["a", "b"])
    assert (waits["job"], waits["type"]) == ("job-1", "job.wait")


def test_room_is_made_for_a_higher_priority_but_nobody_goes_below_its_least() -> None:
    state = with_job(founded("a", "b", "c"), "a", "b", "c")
    state = with_job(state, peers_min=2, priority=1)
    given = placed(state)
    assert [(told["type"], told["job"]) for told in given] == [
        ("job.assign", "job-1"),
        ("job.wait", "job-2"),
    ]
    assert given[0]["peers"] == ["a"]
    assert given[0]["reason"] == "name-b and name-c goes to run, which has a higher priority"
    state = applied(state, *given)
    (taken,) = placed(state)
    assert (taken["job"], taken["peers"]) == ("job-2", ["b", "c"])
    assert placed(applied(state, taken)) == [], "and nobody takes anything back"


@pytest.mark.parametrize("least", [3, 4])
def test_no_room_is_made_when_it_would_not_be_enough(least: int) -> None:
    state = with_job(founded("a", "b", "c"), "a", "b", "c")
    (waits,) = placed(with_job(state, peers_min=least, priority=1))
    assert waits["type"] == "job.wait"


def test_equal_priorities_take_nothing_from_each_other() -> None:
    state = with_job(founded("a", "b", "c"), "a", "b", "c", priority=1)
    (waits,) = placed(with_job(state, priority=1))
    assert waits["type"] == "job.wait"


def test_who_is_missed_keeps_its_place() -> None:
    state = with_job(founded("a", "b"), "a", peers_max=1)
    here = {"b": member("b")}
    assert list(plan_assignments(state, here, {"job-1": {"a"}})) == []
    (command,) = placed(state, here)
    assert command["peers"] == ["b"]


@pytest.mark.parametrize(
    ("assigned", "fields", "kinds", "peers"),
    [
        ((), {}, {"a": "cpu", "b": "cpu", "c": "cpu"}, ["a", "b", "c"]),
        ((), {}, {"a": "cpu", "b": "cuda", "c": "cpu"}, ["b"]),
        ((), {"peers_min": 2}, {"a": "cpu", "b": "cuda", "c": "cpu"}, ["a", "c"]),
        ((), {}, {"a": "cuda", "b": "cuda"}, ["a", "b"]),  # c has not said yet
        (("a",), {}, {"a": "cpu", "b": "cuda", "c": "cpu"}, ["a", "c"]),
        (("b",), {}, {"a": "cpu", "b": "cuda", "c": "cuda"}, ["b", "c"]),
    ],
)
def test_gpus_and_cpus_do_not_mix_in_a_job(
    assigned: tuple[str, ...], fields: dict[str, Any], kinds: dict[str, str], peers: list[str]
) -> None:
    state = with_job(founded("a", "b", "c"), *assigned, **fields)
    (command,) = plan_assignments(state, dict(state.members), devices=kinds)
    assert command["peers"] == peers


def test_who_waits_because_of_that_is_told() -> None:
    state = with_job(founded("a", "b"), peers_min=2)
    (command,) = plan_assignments(state, dict(state.members), devices={"a": "cpu", "b": "cuda"})
    assert command["reason"].startswith("waits for 2 peers with a free slot, 1 now")
    assert command["reason"].endswith("(GPUs and CPUs do not mix in a job)")
