"""The JSON of the contract: its keys exactly, its lists sorted, and only what is known."""

import json
from dataclasses import replace
from typing import Any

import pytest

from p2p import view
from p2p.replicated.state import State
from p2p.reports import check_trainer_message
from p2p.view import RaftView, Vitals, Wanted
from p2p.wire.envelope import Malformed
from tests.peer_fakes import applied, described, founded, generation, mark, running
from tools.sim.trainers import agreed_checkpoint

RAFT = RaftView("b", 3, "a", True, 9, 8, frozenset({"a", "b"}), 0.12345)

CLUSTER_KEYS = {"id", "name", "term", "leader", "quorum", "commit_index", "applied_index"}
PEER_KEYS = {
    *("id", "name", "address", "host", "pid", "role", "state", "slots"),
    *("trainers", "replicas", "rss", "cpu_percent", "version"),
}
JOB_KEYS = {
    *("id", "name", "kind", "task", "state", "reason", "generation", "step", "steps_total"),
    *("epoch", "samples", "loss", "metrics", "samples_per_second", "members", "shards"),
    *("strategy", "codec", "state_hash"),
}


def busy() -> State:
    """Three peers, a job with two generations, a mark and a checkpoint."""
    return applied(running("a", "b", "c"), mark(1, 5), agreed_checkpoint("a", 5))


def progress(number: int, step: int) -> dict[str, Any]:
    told = {"generation": number, "step": step, "epoch": 1, "loss": 0.1, "samples": 99}
    return {**told, "samples_per_second": 7.0}


def job_of(state: State, **vitals: Vitals) -> dict[str, Any]:
    return view.job_summary(state.jobs["job-1"], vitals)


def test_status_has_exactly_the_keys_of_the_contract() -> None:
    told = view.status(busy(), RAFT, {"a": Vitals(1_000, 2.5)})
    assert set(told) == {"schema", "view_from", "age", "cluster", "peers", "jobs"}
    assert (told["schema"], told["view_from"], told["age"]) == (1, "b", 0.123)
    assert set(told["cluster"]) == CLUSTER_KEYS
    assert all(set(peer) == PEER_KEYS for peer in told["peers"])
    assert all(set(job) == JOB_KEYS for job in told["jobs"])
    json.dumps(told, allow_nan=False)


def test_a_job_s_detail_adds_generations_ledger_and_checkpoints() -> None:
    told = view.job_detail(busy().jobs["job-1"], {})
    added = {"generations", "ledger", "checkpoints", "assigned", "excluded", "schema", "notices"}
    added |= {"options", "auto", "bytes_per_step", "compression"}
    assert set(told) == JOB_KEYS | added
    number = {"number", "members", "start_step", "reason", "stall_seconds", "steps_repeated"}
    number |= {"strategy", "codec"}
    assert set(told["generations"][0]) == number
    assert set(told["ledger"][0]) == {"epoch", "samples", "distinct", "repeated", "missing"}
    saved = {"step", "path", "bytes", "seconds", "state_hash"}
    assert set(told["checkpoints"][0]) == saved | {"peer", "count", "parts"}
    json.dumps(told, allow_nan=False)


def test_a_job_as_json_has_exactly_the_keys_of_the_contract() -> None:
    detail = view.job_detail(busy().jobs["job-1"], {})
    told = view.job_contract(detail)
    assert set(told) == JOB_KEYS | {"schema", "generations", "ledger", "checkpoints"}
    rows = {
        "generations": "number members start_step reason stall_seconds steps_repeated",
        "ledger": "epoch samples distinct repeated missing",
        "checkpoints": "step path bytes seconds state_hash",
    }
    for name, keys in rows.items():
        assert told[name]
        assert all(list(row) == keys.split() for row in told[name])
        for row, whole in zip(told[name], detail[name], strict=True):
            assert all(row[key] == whole[key] for key in row if whole[key] is not None)
    assert view.job_progress(detail) == view.job_summary(busy().jobs["job-1"], {})


def test_devices_are_shown_beside_the_peers() -> None:
    vitals = {"a": Vitals(device="cuda", gpus=({"name": "H200"},))}
    rows = view.with_devices(view.peers(busy(), RAFT, vitals), vitals)
    assert all(set(row) == PEER_KEYS | {"device", "gpus"} for row in rows)
    assert [len(row["gpus"]) for row in rows] == [1, 0, 0]


def test_lists_are_sorted_by_id() -> None:
    state = founded("c", "a", "b")
    assert [peer["id"] for peer in view.peers(state, RAFT, {})] == ["a", "b", "c"]
    assert job_of(running("b", "a"))["members"] == ["a", "b"]


@pytest.mark.parametrize(("peer", "role"), [("a", "leader"), ("b", "voter"), ("c", "learner")])
def test_roles(peer: str, role: str) -> None:
    rows = {row["id"]: row for row in view.peers(founded("a", "b", "c"), RAFT, {})}
    assert rows[peer]["role"] == role


def test_who_is_silent_is_suspect_and_who_is_dead_uses_nothing() -> None:
    vitals = {"b": Vitals(500, 9.0, suspect=True)}
    state = running("a", "b")
    row = view.peers(state, RAFT, vitals)[1]
    assert (row["state"], row["rss"], row["trainers"]) == ("suspect", 500, 1)
    dead = {"type": "member.dead", "peer": "b", "incarnation": "1", "reason": "r"}
    row = view.peers(applied(state, dead), RAFT, vitals)[1]
    assert (row["state"], row["rss"], row["trainers"], row["cpu_percent"]) == ("dead", 0, 0, 0.0)


def test_a_new_job_knows_nothing_yet() -> None:
    told = job_of(applied(founded("a"), {"type": "job.submit", "name": "n", "spec": SPEC}))
    unknown = ("generation", "step", "steps_total", "epoch", "samples", "loss", "state_hash")
    assert [told[name] for name in unknown] == [0, 0, None, 0, 0, None, None]
    assert (told["metrics"], told["members"]) == ({}, [])


SPEC = {"task": "digits", "shards": 12, "strategy": "ring", "codec": "int32"}


@pytest.mark.parametrize(
    ("told", "step"),
    [
        ({}, 5),
        ({"job-1": progress(1, 8)}, 8),
        ({"job-1": progress(1, 4)}, 5),
        ({"job-1": progress(2, 8)}, 5),
        ({"job-2": progress(1, 8)}, 5),
        ({"job-1": {}}, 5),
    ],
)
def test_progress_counts_only_when_it_is_of_now_and_ahead(told: dict[str, Any], step: int) -> None:
    assert job_of(busy(), a=Vitals(trainers=told))["step"] == step


def test_the_farthest_trainer_is_shown() -> None:
    vitals = {peer: Vitals(trainers={"job-1": progress(1, 6 + n)}) for n, peer in enumerate("ab")}
    assert job_of(busy(), **vitals)["step"] == 7


def test_a_job_that_does_not_run_has_no_speed() -> None:
    fast = Vitals(trainers={"job-1": progress(1, 8)})
    assert job_of(busy(), a=fast)["samples_per_second"] == 7.0
    assert job_of(busy())["samples_per_second"] == 100.0
    paused = applied(busy(), {"type": "job.pause", "job": "job-1"})
    told = job_of(paused, a=fast)
    assert (told["samples_per_second"], told["step"], told["state"]) == (0.0, 5, "paused")


def test_metrics_are_the_last_that_were_measured() -> None:
    bare = mark(1, 6)
    bare["mark"]["metrics"] = {}
    told = job_of(applied(busy(), bare))
    assert (told["step"], told["metrics"]) == (6, {"accuracy": 0.9})


def test_generations_keep_their_reason_and_stall() -> None:
    state = applied(running("a", "b"), generation(2, "a"))
    entered = {"type": "job.entered", "job": "job-1", "generation": 2, "start_step": 7}
    state = applied(state, {**entered, "stall_s": 0.25, "steps_repeated": 1})
    second = view.job_detail(state.jobs["job-1"], {})["generations"][1]
    assert second == {
        "number": 2,
        "members": ["a"],
        "start_step": 7,
        "reason": "because",
        "strategy": "ring",
        "codec": "int32",
        "stall_seconds": 0.25,
        "steps_repeated": 1,
    }


def test_how_long_the_others_stood_still_is_a_number_as_soon_as_it_is_known() -> None:
    """The first generation stops nobody; one that never stepped is counted by the next."""

    def stalls(state: Any) -> list[float | None]:
        told = view.job_contract(view.job_detail(state.jobs["job-1"], {}))
        return [made["stall_seconds"] for made in told["generations"]]

    state = applied(running("a", "b"), generation(2, "a"))
    assert stalls(state) == [0.0, None]
    state = applied(state, generation(3, "a", "b"))
    assert stalls(state) == [0.0, 0.0, None]
    assert stalls(applied(state, {"type": "job.cancel", "job": "job-1"}))[-1] == 0.0


def test_history_and_events() -> None:
    state = busy()
    (point,) = view.history(state.jobs["job-1"])["points"]
    keys = ("step", "epoch", "loss", "accuracy", "samples", "samples_per_second", "at")
    assert set(point) == set(keys)
    assert (point["step"], point["accuracy"]) == (5, 0.9)
    told = view.events(state, Wanted())["events"]
    assert [event["index"] for event in told] == list(range(1, len(told) + 1))
    assert set(told[0]) == {"index", "at", "kind", "severity", "text", "peer", "job"}
    assert view.events(state, Wanted(told[-2]["index"]))["events"] == told[-1:]
    assert view.events(state, Wanted(10**9))["events"] == []


def test_a_peer_that_is_removed_is_gone_from_the_list() -> None:
    state = applied(founded("a", "b"), {"type": "member.remove", "peer": "b"})
    assert [row["id"] for row in view.peers(state, RAFT, {})] == ["a"]
    alone = replace(RAFT, leader=None, quorum=False)
    assert view.peers(state, alone, {})[0]["role"] == "voter"
    back = applied(state, {"type": "member.join", "member": described("c")})
    assert len(view.peers(back, RAFT, {})) == 2


def test_what_trainers_send_is_shown_while_they_run() -> None:
    said = {**progress(1, 6), "bytes_per_step": 1000.0, "compression": 3.9}
    more = {**said, "bytes_per_step": 2000.0, "compression": 1.95}
    vitals = {p: Vitals(trainers={"job-1": each}) for p, each in (("a", said), ("b", more))}
    told = view.job_detail(busy().jobs["job-1"], vitals)
    assert (told["bytes_per_step"], told["compression"]) == (1500.0, 2.6)
    alone = {**said, "bytes_per_step": 0.0, "compression": None}
    told = view.job_detail(busy().jobs["job-1"], {"a": Vitals(trainers={"job-1": alone})})
    assert (told["bytes_per_step"], told["compression"]) == (0.0, None)
    check_trainer_message("progress", said)
    with pytest.raises(Malformed, match="compression is wrong"):
        check_trainer_message("progress", {**said, "compression": "much"})
