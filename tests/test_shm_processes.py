"""Ranks in processes of their own that share memory, and one that is killed in the middle."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import zmq

from collectives.plane import CurveKeys, DataPlane, Endpoints, LostPeer
from collectives.shm_memory import empty

pytestmark = pytest.mark.processes
KEYS = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
COUNT = 3_000_000
NOTICED_SECONDS_MAX = 0.5  # on a busy machine; docs/decisions has what is measured on an idle one


def work(ipc_dir: str, keys: CurveKeys, rank: int, registered: bool, parent: Connection) -> None:
    """Reduce until a member is lost; tell who, when, and what is left of the others' memory."""
    plane = DataPlane("127.0.0.1", ipc_dir, keys)
    parent.send(plane.endpoints)
    members: list[Endpoints] = parent.recv()
    group = plane.enter("job", 1, rank, members)
    make = empty if registered else np.empty
    source, out = make(COUNT, np.float32), make(COUNT, np.float32)
    source[:] = rank + 1
    reductions = 0
    try:
        while True:
            group.all_reduce(source, out, "sum")
            assert out[0] == out[-1] == 6
            reductions += 1
            if reductions == 3:
                parent.send("under way")
    except LostPeer as error:
        noticed, lost = time.monotonic(), error.rank
    assert (source == rank + 1).all()
    del source, out
    plane.close()
    left = Path("/proc/self/maps").read_text().count("memfd:p2p")
    parent.send((noticed, lost, left))


@contextmanager
def processes(folder: Path, registered: bool) -> Iterator[list[tuple[int, Connection]]]:
    """Three of them at work: (pid, pipe), by rank."""
    spawn = multiprocessing.get_context("spawn")
    children, pipes = [], []
    for rank in range(3):
        ours, theirs = spawn.Pipe()
        plan = (str(folder / "ipc"), KEYS, rank, registered, theirs)
        child = spawn.Process(target=work, args=plan, daemon=True)
        child.start()
        theirs.close()
        children.append(child)
        pipes.append(ours)
    try:
        endpoints = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.send(endpoints)
        assert [pipe.recv() for pipe in pipes] == ["under way"] * 3
        yield [(child.pid or 0, pipe) for child, pipe in zip(children, pipes, strict=True)]
    finally:
        for child, pipe in zip(children, pipes, strict=True):
            child.kill()
            child.join()
            child.close()
            pipe.close()


def segments_of(pids: list[int]) -> int:
    found = 0
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            found += "memfd:p2p" in os.readlink(fd)
    return found


@pytest.mark.parametrize("registered", [True, False])
def test_a_killed_rank_is_noticed_at_once_and_leaves_nothing(
    tmp_path: Path, registered: bool
) -> None:
    with processes(tmp_path, registered) as ranks:
        pids = [pid for pid, _ in ranks]
        assert segments_of(pids) >= 3, "they do not share memory"
        killed = time.monotonic()
        os.kill(pids[2], 9)
        for _, pipe in ranks[:2]:
            noticed, lost, left = pipe.recv()
            assert lost in (0, 1, 2)  # the one that is gone, or one that left because of it
            assert left == 0
            assert noticed - killed < NOTICED_SECONDS_MAX
            print(f"noticed after {(noticed - killed) * 1e3:.1f} ms")
