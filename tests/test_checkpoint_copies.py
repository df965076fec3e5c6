"""Parts that a job's peers lack are fetched by one of them; restoring and exporting as requests."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2p.checkpoints.copies import CheckpointCopies, lacking
from p2p.checkpoints.model_export import Unreadable, model_of, write_model
from p2p.checkpoints.restoring import restore
from p2p.checkpoints.safetensors_file import Entry, header, header_bytes, parse
from p2p.checkpoints.shelf import MemoryShelf
from p2p.clock import ManualClock
from p2p.content.contract import Fetched, MemoryContent, MemoryHub
from p2p.control.checkpoints import unfetchable
from p2p.errors import P2PError, Usage
from p2p.fetching import Fetching
from p2p.replicated.state import State
from p2p.reports import TrainerReport, parse_report
from tests.peer_fakes import (
    FakePeer,
    applied,
    described,
    entered,
    generation,
    report,
    running,
    spec,
)

BYTES = b"a part of a checkpoint"
SHA256 = hashlib.sha256(BYTES).hexdigest()


def restored(*assigned: str) -> State:
    """job-2 goes on from a checkpoint of job-1 of which c has part 0, and a and b have part 1."""
    state = running("a", "b", "c", keep_checkpoints=5)
    parts = [
        {"number": n, "peer": peer, "path": f"/{peer}", "bytes": len(BYTES), "seconds": 0.1}
        for n, peer in ((0, "c"), (1, "a"), (1, "b"))
    ]
    digests = [f"sha256:{SHA256}", "sha256:of-part-1"]
    parts = [{**part, "digest": digests[int(str(part["number"]))]} for part in parts]
    made = {"step": 40, "state_hash": "sha256:s", "count": 2, "parts": parts}
    fence = {"job": "job-1", "generation": 1}
    return applied(
        state,
        {"type": "job.checkpoint", **fence, "checkpoint": made},
        {**restore(state_with(state, fence, made), {"job": "job-1"}), "name": "again"},
        {"type": "job.assign", "job": "job-2", "peers": list(assigned), "reason": "starts"},
    )


def state_with(state: State, fence: dict[str, Any], made: dict[str, Any]) -> State:
    return applied(state, {"type": "job.checkpoint", **fence, "checkpoint": made})


def test_one_of_the_peers_fetches_what_none_of_them_has() -> None:
    job = restored("a", "b").jobs["job-2"]
    assert [part.number for part in lacking(job, "a")] == [0]
    assert lacking(job, "b") == lacking(job, "c") == []
    assert lacking(replace(job, assigned=("b", "c")), "b") == []
    alone = replace(job, assigned=("x",))
    assert [part.number for part in lacking(alone, "x")] == [0, 1]
    state = applied(restored("a", "b"), generation(1, "a", "b", job="job-2"))
    job = applied(state, {**entered(1, 40), "job": "job-2"}).jobs["job-2"]
    assert lacking(job, "a") == [], "it runs: nobody needs it any more"


def test_a_fetched_part_is_reported_until_the_log_has_it() -> None:
    state, hub, peer = restored("a", "b"), MemoryHub(), FakePeer(described("a"))
    hub.files["c", SHA256] = BYTES
    content, shelf = MemoryContent(hub, "a"), MemoryShelf()
    fetching = Fetching("a", content, ManualClock(), lambda: None)
    copies = CheckpointCopies("a", content, fetching, shelf, peer.desk)
    peer.desk.reports["job-2"] = TrainerReport("a.1", "job-2", "starting")
    copies.act(state)
    assert peer.desk.reports["job-2"].checkpoints == ()
    assert hub.deliver() == 1
    for _ in range(2):
        copies.act(state)
    (told,) = peer.desk.reports["job-2"].checkpoints
    assert [part["number"] for part in told["parts"]] == [0]
    assert [file.step for file in shelf.files.values()] == [40]
    copy = {"type": "job.checkpoint_copy", "job": "job-2", "step": 40}
    state = applied(state, {**copy, "parts": [{**told["parts"][0], "peer": "a"}]})
    assert state.jobs["job-2"].checkpoints[0].holders == {0: ("a", "c"), 1: ("a", "b")}
    assert state.jobs["job-1"].checkpoints[0].holders[0] == ("c",)


def test_a_copy_that_was_found_damaged_is_neither_used_nor_offered_again(tmp_path: Path) -> None:
    """The list of job-1 still has it: the job that made a checkpoint stays as it is."""
    state = restored("b")
    digest = state.jobs["job-1"].checkpoints[0].parts[1].digest
    sha256 = digest.removeprefix("sha256:")
    fence = {"job": "job-2", "generation": 1, "step": 40, "error": "damaged"}
    state = applied(
        state,
        generation(1, "b", job="job-2"),
        {"type": "job.checkpoint_unusable", **fence, "bad": [[1, "b"]]},
    )
    hub, peer = MemoryHub(), FakePeer(described("b"))
    content, clock = MemoryContent(hub, "b"), ManualClock()
    fetching = Fetching("b", content, clock, lambda: None)
    copies = CheckpointCopies("b", content, fetching, MemoryShelf(), peer.desk)
    peer.desk.reports["job-2"] = TrainerReport("b.1", "job-2", "ready")
    copies.act(restored("b"))  # as it was until now
    assert ("b", sha256) in hub.files

    def fetched() -> list[dict[str, Any]]:
        copies.act(state)
        hub.files["a", sha256] = BYTES
        hub.deliver()
        copies.act(state)
        return [
            {**part, "peer": "b"}
            for told in peer.desk.reports["job-2"].checkpoints
            for part in told["parts"]
            if part["number"] == 1
        ]

    (part,) = fetched()
    assert hub.files["b", sha256] == BYTES
    copy = {"type": "job.checkpoint_copy", "job": "job-2", "step": 40, "parts": [part]}
    state = applied(state, copy)
    copies.act(state)
    assert [each.number for each in lacking(state.jobs["job-2"], "b")] == [0]
    # The new copy is damaged, too: it is told of no more, and fetched once more.
    fence = {**fence, "generation": 2}
    state = applied(
        state,
        generation(2, "b", job="job-2"),
        {"type": "job.checkpoint_unusable", **fence, "bad": [[1, "b"]]},
    )
    copies.act(state)
    assert peer.desk.reports["job-2"].checkpoints == ()
    assert fetched() == [part]


@pytest.mark.parametrize(("wrong", "state_after"), [("c", "failed"), ("", "starting")])
def test_a_job_does_not_wait_for_a_copy_that_is_damaged(wrong: str, state_after: str) -> None:
    """Its holder is no peer of the job, so no trainer finds out: whoever fetches does."""
    state, peer = restored("a", "b"), FakePeer(described("a"))
    content = MemoryContent(MemoryHub(), "a")
    fetching = Fetching("a", content, ManualClock(), lambda: None)
    copies = CheckpointCopies("a", content, fetching, MemoryShelf(), peer.desk)
    peer.desk.reports["job-2"] = TrainerReport("a.1", "job-2", "failed")
    copies.act(state)
    content.wanted[SHA256](Fetched(SHA256, None, "nobody could", frozenset(wrong)))
    copies.act(state)
    trainers = parse_report(report("a", peer.desk.reports["job-2"]).to_wire()).trainers
    told = {each.job: each for each in trainers.values()}
    command = unfetchable(state.jobs["job-2"], {"a": told["job-2"]})
    state = applied(state, *([command] if command else []))
    job = state.jobs["job-2"]
    assert job.state == state_after
    if wrong:
        assert job.reason == (
            "the checkpoint of step 40 cannot be used: part 1 of name-c is not what was written: "
            "it was damaged or changed"
        )
        assert unfetchable(job, {"a": told["job-2"]}) is None, "that was said already"
    assert len(state.jobs["job-1"].checkpoints) == 1


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"step": 7}, "run has no checkpoint of step 7: there are 40"),
        ({"steps": 30}, "--steps 30: the checkpoint is of step 40 already"),
        ({"epochs": 0}, "epochs is 0: it must be a whole number from 1 up"),
        ({"peers_min": 13}, "--peers 13: the job has 12 shards only"),
        ({"name": "x" * 301}, "a job's name has at most 300 characters"),
    ],
)
def test_what_cannot_be_restored_is_refused(args: dict[str, Any], error: str) -> None:
    with pytest.raises(P2PError) as refused:
        restore(restored("a"), {"job": "job-1", **args})
    assert str(refused.value) == error


def test_a_restored_job_is_as_the_other_but_for_what_is_asked() -> None:
    command = restore(restored("a"), {"job": "job-1", "steps": 90, "peers_max": 2})
    assert command["spec"] == {**spec(keep_checkpoints=5), "steps": 90, "epochs": None} | {
        "peers_max": 2
    }
    with pytest.raises(Usage):
        restore(running("a"), {"job": "job-9"})
    with pytest.raises(P2PError, match="has no checkpoint yet: `p2pnode checkpoint job-1`"):
        restore(running("a"), {"job": "job-1"})


def part(**tensors: bytes) -> bytes:
    entries, at = [], 0
    for name, raw in tensors.items():
        entries.append(Entry(name.replace("__", "."), "U8", (len(raw),), at, at + len(raw)))
        at += len(raw)
    return header(entries, {"step": "40", "ledger": "[]"}) + b"".join(tensors.values())


def test_a_model_is_joined_from_its_parts(tmp_path: Path) -> None:
    parts = [part(b=b"22", optimizer__b=b"9999"), part(a=b"111", strategy__x=b"8")]

    async def read(number: int, offset: int, count: int) -> bytes:
        return parts[number][offset : offset + min(count, 8)]

    digests = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in parts]
    head, data = asyncio.run(model_of(read, digests))
    entries, metadata = parse(head[: header_bytes(head[:8])])
    assert {each.name: data[each.begin : each.end] for each in entries} == {"a": b"111", "b": b"22"}
    assert metadata == {"format": "pt", "step": "40"}
    write_model(tmp_path / "m", head, data)
    assert (tmp_path / "m").read_bytes() == head + data
    with pytest.raises(P2PError, match="cannot write"):
        write_model(tmp_path / "no" / "m", head, data)
    parts[1] = parts[1][:-1] + b"!"
    with pytest.raises(Unreadable, match="it was damaged or changed"):
        asyncio.run(model_of(read, digests))
    parts[0] = parts[0][:20]
    with pytest.raises(Unreadable, match="it is no checkpoint: it is cut short"):
        asyncio.run(model_of(read, digests))
