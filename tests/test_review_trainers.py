"""Trainers and disks that misbehave: their peer lives, their cluster lives, progress is kept."""

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from p2p.control.controller import plan
from p2p.processes import ChildListener, TrainerProcesses
from p2p.raft_host import COMMAND_BYTES_MAX
from p2p.replicated.apply import apply
from p2p.storage.disk import DiskFailed, Folder
from p2p.training.blame import SENTENCE_MAX, sentence
from p2p.training.spare import Spare
from tests.peer_fakes import applied, observed, report, running, trainer
from tests.peer_twins import grown
from tools.sim.trainers import STEPS, standing


def rows(*epochs: int, samples: int = 10) -> list[dict[str, int]]:
    facts = {"samples": samples, "distinct": samples, "repeated": 0, "missing": 0}
    return [{"epoch": epoch, **facts} for epoch in epochs]


def test_a_mark_carries_only_what_is_new_in_the_ledger() -> None:
    """All of it in every mark made the log grow with the square of the epochs."""
    state = running("a")
    for step, ledger in [
        (1, rows(1)),
        (2, [*rows(1), *rows(2, samples=3)]),
        (3, rows(1, 2, 3)),
        (4, rows(2, 3, 4)),  # a trainer tells only the newest rows
        (5, rows(1, samples=7)),  # every trainer was lost: back to the first epoch
    ]:
        told = {**standing(1, step), "ledger": ledger}
        made = plan(state, observed(report("a", trainer("a", mark=told))))
        command = next(one for one in made if one["type"] == "job.mark")
        assert len(command["ledger"]) <= 2
        state = applied(state, {"at_s": 1.0, **command})
        last = ledger[-1]["epoch"]
        assert [row["epoch"] for row in state.jobs["job-1"].ledger] == list(range(1, last + 1))
        assert state.jobs["job-1"].ledger[-len(ledger) :] == tuple(ledger)


@pytest.mark.parametrize("ledger", [[1], [{}], "x", [{"epoch": None}], {"epoch": 1}])
def test_a_ledger_that_is_none_changes_nothing(ledger: Any) -> None:
    state = running("a")
    told = standing(1, 1)
    del told["ledger"], told["generation"]
    fence = {"type": "job.mark", "job": "job-1", "generation": 1, "ledger": ledger, "at_s": 1.0}
    state = applied(
        state, {**fence, "mark": {**told, "samples_per_second": 1.0}, "ledger": rows(1)}
    )
    after, answer = apply(state, {**fence, "mark": {**told, "step": 2, "samples_per_second": 1.0}})
    assert "error" in answer
    assert after == state


def test_what_cannot_enter_the_log_fails_the_job_and_not_the_leader() -> None:
    cluster = grown(1)
    assert "ok" in cluster.ask("a", "submit", task="digits")
    cluster.until(lambda: cluster.leader.peer.state.jobs["job-1"].state == "running", "running")
    twin = cluster.leader
    metrics = {f"m{number:07}": 0.5 for number in range(COMMAND_BYTES_MAX // 15)}
    told = {**standing(1, STEPS), "metrics": metrics}
    twin.peer.on_trainer(next(iter(twin.children.started)), {"kind": "mark", **told})
    cluster.run(0.3)
    job = twin.peer.state.jobs["job-1"]
    assert job.state == "failed"
    assert "too many for the log" in job.reason


@pytest.mark.parametrize(
    "said", [b"\xc1", msgpack.packb([1]), msgpack.packb("x"), b"\x81\xa1", bytes(2 << 20)]
)
def test_a_trainer_that_says_nonsense_counts_as_ended(said: bytes, tmp_path: Path) -> None:
    ended: list[str] = []

    async def main() -> None:
        done = asyncio.Event()

        def on_exit(child: str, how: str) -> None:
            ended.append(child)
            done.set()

        listener = ChildListener(
            lambda: None, lambda child, message: None, on_exit, lambda child, how: None
        )
        processes = TrainerProcesses(tmp_path, tmp_path / "scratch", listener)
        spare, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        processes._spare_socket = spare
        processes.start("c", {"kind": "begin"})
        _, fds, _, _ = socket.recv_fds(theirs, 1 << 16, 1)
        stream = socket.socket(fileno=fds[0])
        stream.setblocking(False)
        with spare, theirs, stream:
            loop = asyncio.get_running_loop()
            sending = asyncio.ensure_future(
                loop.sock_sendall(stream, len(said).to_bytes(4, "big") + said)
            )
            await asyncio.wait_for(done.wait(), 5.0)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(main())
    assert ended == ["c"]


def test_an_error_is_told_at_a_length_that_can_travel() -> None:
    assert len(sentence(ValueError("x" * 10_000_000))) <= SENTENCE_MAX + 1


def test_nothing_is_written_after_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a frame may be on the disk; a whole one behind it would make the log damaged."""
    folder = Folder(tmp_path)
    write = os.write

    def full(file: int, data: bytes) -> int:
        write(file, bytes(data)[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("p2p.storage.disk.os.write", full)
    with pytest.raises(DiskFailed, match="No space left"):
        folder.append("raft.log", b"frame 1")
    monkeypatch.setattr("p2p.storage.disk.os.write", write)
    with pytest.raises(DiskFailed, match="No space left"):
        folder.append("raft.log", b"frame 2")
    assert folder.read("raft.log") == b"fra"
    folder.close()


def test_a_spare_that_cannot_fork_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("p2p.training.spare.os.fork", no_process)
    spare = Spare.__new__(Spare)
    ours, theirs = socket.socketpair()
    with ours:
        spare._fork("c", theirs)
        assert ours.recv(1) == b""  # the peer sees a trainer that ended


def test_the_last_peer_that_runs_is_not_removed() -> None:
    cluster = grown(2)
    cluster.kill("b")
    cluster.until(lambda: cluster.leader.peer.state.members["b"].state == "dead", "b's end")
    assert "only peer that runs" in cluster.ask("a", "remove", peer="a")["error"]
    assert "ok" in cluster.ask("a", "remove", peer="b")


def test_who_sits_only_in_a_closed_generation_may_leave() -> None:
    state = applied(running("a"), {"type": "job.wait", "job": "job-1", "reason": "waits"})
    cluster = grown(2)
    twin = cluster.twins["b"]
    member = replace(twin.peer.state.members["b"], state="left")
    job = state.jobs["job-1"]
    assert job.generation is not None
    seats = (replace(job.generation.seats[0], peer="b"),)
    job = replace(job, generations=(replace(job.generation, seats=seats),))
    members = {**twin.peer.state.members, "b": member}
    twin.peer.state = replace(twin.peer.state, members=members, jobs={"job-1": job})
    assert twin.peer.has_left
