"""The torch.distributed backend on threads: a group of ranks within this process."""

import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    AllreduceOptions,
    BroadcastOptions,
    GatherOptions,
    ReduceOptions,
    ReduceScatterOptions,
    ScatterOptions,
)

import p2p.torch_backend
from p2p.distributed import rendezvous
from p2p.distributed.group import ProcessGroupP2P

Act = Callable[[ProcessGroupP2P, int], Any]


def together(size: int, act: Act, timeout: float = 20.0) -> list[Any]:
    """What `act(group, rank)` returns or raises on every rank of a new group, by rank."""
    store = dist.HashStore()

    def rank_main(rank: int) -> Any:
        group = ProcessGroupP2P(store, rank, size, timedelta(seconds=timeout), "test")
        try:
            return act(group, rank)
        except Exception as error:
            return error
        finally:
            group.shutdown()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank_main, range(size)))


def reason_of(work: Any) -> str:
    with pytest.raises(RuntimeError) as failure:
        work.wait()
    return str(failure.value)


def options(kind: Any, **fields: Any) -> Any:
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


REDUCIBLE = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64]
REDUCIBLE += [torch.uint8, torch.int8, torch.int16]
OPS = {
    "SUM": lambda parts: torch.stack(parts).sum(0),
    "PRODUCT": lambda parts: torch.stack(parts).prod(0),
    "MAX": lambda parts: torch.stack(parts).amax(0),
    "MIN": lambda parts: torch.stack(parts).amin(0),
}


def values(rank: int, dtype: torch.dtype, length: int = 7) -> torch.Tensor:
    return (torch.arange(length) % 3 + rank + 1).to(dtype)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_reduce_of_every_type_and_operation(size: int) -> None:
    def act(group: ProcessGroupP2P, rank: int) -> dict[Any, torch.Tensor]:
        got = {}
        for dtype in REDUCIBLE:
            for op in OPS:
                got[dtype, op] = values(rank, dtype)
                kind = options(AllreduceOptions, reduceOp=getattr(dist.ReduceOp, op))
                group.allreduce([got[dtype, op]], kind).wait()
        flags = torch.tensor([rank == 0, False, True])
        group.allreduce([flags], options(AllreduceOptions, reduceOp=dist.ReduceOp.BAND)).wait()
        mean = torch.tensor([float(rank)])
        group.allreduce([mean], options(AllreduceOptions, reduceOp=dist.ReduceOp.AVG)).wait()
        many = torch.full((3, 2), complex(1, rank)).t()  # not contiguous
        group.allreduce([many]).wait()
        return {**got, "flags": flags, "mean": mean, "complex": many}

    for got in together(size, act):
        for dtype in REDUCIBLE:
            for op, expected in OPS.items():
                right = expected([values(rank, dtype) for rank in range(size)])
                assert torch.equal(got[dtype, op], right.to(dtype)), (dtype, op)
        assert got["flags"].tolist() == [size == 1, False, True]
        assert got["mean"].item() == (size - 1) / 2
        assert got["complex"].tolist() == [[complex(size, size * (size - 1) / 2)] * 3] * 2


@pytest.mark.parametrize("size", [2, 3])
def test_moving_collectives(size: int) -> None:
    def act(group: ProcessGroupP2P, rank: int) -> dict[str, Any]:
        mine = torch.tensor([[rank, 10 * rank]])
        got: dict[str, Any] = {}
        got["broadcast"] = mine.clone()
        group.broadcast([got["broadcast"]], options(BroadcastOptions, rootRank=1)).wait()
        got["gathered"] = [torch.zeros_like(mine) for _ in range(size)]
        group.allgather([got["gathered"]], [mine]).wait()
        got["uneven"] = [torch.zeros(r + 1) for r in range(size)]
        group.allgather([got["uneven"]], [torch.full((rank + 1,), float(rank))]).wait()
        got["single"] = torch.zeros(size, 2, dtype=torch.int64)
        group.all_gather_single(got["single"], mine).wait()
        root = rank == 0
        got["root"] = [torch.zeros_like(mine) for _ in range(size)] if root else []
        group.gather([got["root"]] if root else [], [mine], options(GatherOptions)).wait()
        got["scattered"] = torch.zeros(2)
        parts = [[torch.full((2,), float(r)) for r in range(size)]] if root else []
        group.scatter([got["scattered"]], parts, options(ScatterOptions)).wait()
        got["reduced"] = mine.clone()
        group.reduce([got["reduced"]], options(ReduceOptions, rootRank=0)).wait()
        got["part"] = torch.zeros(2)
        whole = torch.arange(2.0 * size)
        group.reduce_scatter_single(got["part"], whole, options(ReduceScatterOptions)).wait()
        got["parts"] = torch.zeros(rank + 1)
        lists = [[torch.full((r + 1,), float(r)) for r in range(size)]]
        group.reduce_scatter([got["parts"]], lists).wait()
        got["swapped"] = torch.zeros(size)
        group.all_to_all_single(
            got["swapped"], torch.arange(float(size)) + 10 * rank, [], []
        ).wait()
        rows = torch.full((sum(range(1, size + 1)), 2), rank)
        got["rows"] = torch.zeros(size * (rank + 1), 2, dtype=torch.int64)
        splits = [rank + 1] * size
        group.all_to_all_single(got["rows"], rows, splits, list(range(1, size + 1))).wait()
        return got

    every = torch.tensor([[rank, 10 * rank] for rank in range(size)])
    for rank, got in enumerate(together(size, act)):
        assert not isinstance(got, Exception), got
        assert got["broadcast"].tolist() == [[1, 10]]
        assert torch.equal(torch.cat(got["gathered"]), every)
        assert [part.tolist() for part in got["uneven"]] == [[r] * (r + 1) for r in range(size)]
        assert torch.equal(got["single"], every)
        assert rank > 0 or torch.equal(torch.cat(got["root"]), every)
        assert got["scattered"].tolist() == [rank] * 2
        assert rank > 0 or got["reduced"].tolist() == every.sum(0, keepdim=True).tolist()
        assert got["part"].tolist() == [2 * rank * size, (2 * rank + 1) * size]
        assert got["parts"].tolist() == [rank * size] * (rank + 1)
        assert got["swapped"].tolist() == [rank + 10 * r for r in range(size)]
        assert got["rows"][:, 0].tolist() == [r for r in range(size) for _ in range(rank + 1)]


def test_tensors_without_elements_pass_through_everything() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        none = torch.zeros(0, 3)
        group.allreduce([none]).wait()
        group.broadcast([none], 1).wait()
        group.allgather([[none.clone(), none.clone()]], [none]).wait()
        group.all_gather_single(torch.zeros(0), none.view(0)).wait()
        group.all_to_all_single(none.clone(), none, [], []).wait()
        group.reduce_scatter_single(none.clone(), none).wait()
        works = [group.send([none], 1 - rank, 3), group.recv([none.clone()], 1 - rank, 3)]
        return [work.wait() for work in works]

    assert together(2, act) == [[True, True]] * 2


def test_messages_pass_collectives_and_come_from_any_source() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        to, source = (rank + 1) % 3, (rank - 1) % 3
        long, short = torch.zeros(100_000), torch.zeros(1)
        # The receives wait while a collective runs, and nobody has sent yet.
        waiting = [group.recv([long], source, 5), group.recv_anysource([short], 6)]
        group.barrier().wait()
        sent = [group.send([torch.full((100_000,), float(rank))], to, 5)]
        sent += [group.send([torch.tensor([float(rank)])], to, 6)]
        for work in waiting + sent:
            work.wait()
        own = torch.zeros(2)
        mine = group.recv([own], rank, 9)
        group.send([torch.ones(2)], rank, 9).wait()
        mine.wait()
        return long[-1].item(), short.item(), waiting[1]._source_rank(), own.tolist()

    for rank, got in enumerate(together(3, act)):
        source = (rank - 1) % 3
        assert got == (source, source, source, [1.0, 1.0])


def test_a_handle_tells_its_end_and_its_future_carries_the_tensors() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        tensor = torch.ones(3)
        work = group.allreduce([tensor])
        future = work.get_future().then(lambda done: done.value()[0] / 2)
        assert work.wait()
        assert work.is_completed()
        assert work.is_success()
        assert work.result()[0] is tensor
        return future.wait().tolist()

    assert together(2, act) == [[1.0] * 3] * 2


def test_sparse_tensors_are_summed() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        indices, entries = [[0, rank + 1]], [1.0, 2.0]
        tensor = torch.sparse_coo_tensor(indices, entries, (4,), check_invariants=True)
        group.allreduce([tensor]).wait()
        return tensor.to_dense().tolist()

    assert together(3, act) == [[3.0, 2.0, 2.0, 2.0]] * 3


def test_who_is_missing_is_named_and_the_others_fail_at_once() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        started.wait()
        if rank != 2:
            group.barrier(timeout=timedelta(seconds=0.2 if rank == 0 else 60)).wait()
        else:
            ended.wait()
        return None

    started, ended = threading.Barrier(3), threading.Event()
    threading.Timer(1.0, ended.set).start()
    zero, one, two = together(3, act)
    reason = "barrier did not end within its timeout of 0.2 s: rank 2 is missing"
    assert str(zero) == reason
    assert str(one) == f"{reason} (says rank 0)"
    assert two is None


def test_a_rank_that_has_left_is_named_at_once() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        group.barrier().wait()
        if rank == 1:
            return None  # and leaves
        heard = [reason_of(group.recv([torch.zeros(1)], 1)), reason_of(group.barrier())]
        both_heard.wait()  # else one of them would leave, too
        return heard

    both_heard = threading.Barrier(2)
    heard = ["rank 1 left the group", "barrier cannot end: rank 1 left the group before"]
    assert together(3, act) == [heard, None, heard]


def test_monitored_barrier_names_all_who_do_not_come() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        group.monitored_barrier()
        if rank == 0:
            group.monitored_barrier(timedelta(seconds=0.1), wait_all_ranks=True)
        elif rank == 3:
            group.monitored_barrier(timedelta(seconds=5))

    zero, one, _, three = together(4, act)
    assert str(zero) == "[Rank 0]: Ranks 1, 2 failed to pass monitoredBarrier in 100 ms"
    assert one is None
    assert "Rank 3 successfully reached monitoredBarrier, but received errors" in str(three)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda g: g.allreduce([torch.zeros(2, device="meta")]), "this one is on meta"),
        (lambda g: g.broadcast([torch.zeros(2).to_sparse()], 0), "pass its .to_dense()"),
        (lambda g: g.allgather([[torch.zeros(1)]] * 2, [torch.zeros(1)]), "needs 2 tensors"),
        (lambda g: g.allreduce([torch.ones(1)], dist.ReduceOp.BAND), "needs integers"),
        (lambda g: g.all_gather_single(torch.zeros(3), torch.zeros(1)), "2 equal parts"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_caller(call: Any, sentence: str) -> None:
    refused = together(2, lambda group, rank: call(group))
    assert all(isinstance(error, ValueError) and sentence in str(error) for error in refused)


def test_an_abort_ends_what_runs_on_all_ranks() -> None:
    def act(group: ProcessGroupP2P, rank: int) -> Any:
        if rank != 2:
            works = [group.barrier(), group.barrier(), group.recv([torch.zeros(1)], 2)]
            waiting.wait()
            return [reason_of(work) for work in works]
        waiting.wait()
        return group.abort()

    waiting = threading.Barrier(3)
    zero, one, two = together(3, act, timeout=60)
    reason = "rank 2 aborted the group (says rank 2)"
    assert (zero, one, two) == ([reason] * 3, [reason] * 3, None)


def test_the_folder_of_a_killed_process_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2P_RUNTIME_DIR", str(tmp_path))
    dead, listening, young = (tmp_path / f"torch-1-{name}" for name in ("dead", "alive", "young"))
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as killed:
        for folder, unix in [(dead, killed), (listening, alive), (young, None)]:
            folder.mkdir()
            if unix is not None:
                unix.bind(str(folder / "a.mail"))
                os.utime(folder, (0, 0))
        alive.listen()
        mine = rendezvous.private_folder()
        assert sorted(tmp_path.iterdir()) == sorted([listening, young, mine])


def test_nothing_is_left_of_a_group() -> None:
    def resources() -> tuple[int, set[str], int]:
        gc.collect()
        threads = {thread.name for thread in threading.enumerate()}
        return len(os.listdir("/proc/self/fd")), threads, len(os.listdir("/proc/self/task"))

    def act(group: ProcessGroupP2P, rank: int) -> None:
        first = group.allreduce([torch.ones(200_000)])
        if rank == 1:
            first.wait()
            group.abort()
        else:
            second = group.allreduce([torch.ones(200_000)])
            with suppress(RuntimeError):
                first.wait()  # the abort may be quicker than the result
            assert "aborted" in reason_of(second)

    together(2, act)
    before = resources()
    for _ in range(8):
        assert together(2, act) == [None, None]
    deadline = time.monotonic() + 10
    while resources()[0] > before[0] and time.monotonic() < deadline:  # libzmq reaps sockets later
        time.sleep(0.01)
    files, threads, tasks = resources()
    assert files <= before[0]
    assert (threads, tasks) == before[1:]
    assert p2p.torch_backend.NAME in dist.Backend.backend_list
