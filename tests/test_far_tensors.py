"""The torch backend on tensors of a device: played by CPU tensors whose copies come late, and by
CUDA ones where there is a GPU."""

import random
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import (
    AllreduceOptions,
    BroadcastOptions,
    GatherOptions,
    ReduceOptions,
    ScatterOptions,
)

from p2p.devices import cuda as far
from p2p.devices import staging
from p2p.devices.staging import Buffers
from p2p.distributed.group import ProcessGroupP2P
from tests.fake_device import FakeDevice
from tests.test_torch_backend import options, together

SIZE = 3
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


class FakeCopies(FakeDevice):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.buffers = Buffers(self)
        self.device = torch.device("cpu")

    arriving = nullcontext


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeCopies:
    """All tensors count as this device's."""
    made = FakeCopies(random.Random(7))
    monkeypatch.setattr(far, "is_far", lambda tensor: True)
    monkeypatch.setattr(far, "copies_of", lambda device: made)
    monkeypatch.setattr(staging.Passage.__init__, "__defaults__", (64, 2))
    return made


def values(rank: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return (torch.arange(count) % 11 + 10 * rank).reshape(shape).to(dtype)


class Late:
    """A program whose tensors are computed late, and read late."""

    def __init__(self, device: FakeCopies) -> None:
        self.device = device
        self.seen: dict[str, list[torch.Tensor]] = {}

    def made(self, right: torch.Tensor) -> torch.Tensor:
        tensor = torch.full_like(right, 99)
        self.device.compute(lambda: tensor.copy_(right))
        return tensor

    def read(self, name: str, work: Any, *tensors: torch.Tensor) -> None:
        work.wait()
        self.device.compute(lambda: self.seen.update({name: [t.clone() for t in tensors]}))


def act(group: ProcessGroupP2P, rank: int, late: Late) -> Late:
    mine = late.made(values(rank, 5, 9))
    late.read("all_reduce", group.allreduce([mine]), mine)
    half = late.made(values(rank, 70, dtype=torch.bfloat16))
    most = options(AllreduceOptions, reduceOp=dist.ReduceOp.MAX)
    late.read("max", group.allreduce([half], most), half)
    turned = late.made(values(rank, 4, 6).t())
    late.read("turned", group.allreduce([turned]), turned)
    rooted = late.made(values(rank, 40))
    late.read("reduce", group.reduce([rooted], options(ReduceOptions, rootRank=1)), rooted)
    sent = late.made(values(rank, 3, 3))
    late.read("broadcast", group.broadcast([sent], options(BroadcastOptions, rootRank=2)), sent)
    every = [torch.zeros(2, 4) for _ in range(SIZE)]
    late.read("all_gather", group.allgather([every], [late.made(values(rank, 2, 4))]), *every)
    part = torch.zeros(6)
    whole = late.made(values(rank, 6 * SIZE))
    late.read("reduce_scatter", group.reduce_scatter_single(part, whole), part)
    swapped = torch.zeros(SIZE)
    late.read("all_to_all", group.all_to_all_single(swapped, late.made(values(rank, 3)), [], []),
              swapped)  # fmt: skip
    parts = [late.made(values(r, 4)) for r in range(SIZE)] if rank == 0 else []
    own = torch.zeros(4)
    work = group.scatter([own], [parts] if parts else [], options(ScatterOptions))
    late.read("scatter", work, own)
    roots = [torch.zeros(4) for _ in range(SIZE)] if rank == 0 else []
    work = group.gather([roots] if roots else [], [own], options(GatherOptions))
    late.read("gather", work, *roots)
    to, source = (rank + 1) % SIZE, (rank - 1) % SIZE
    came = torch.zeros(20_000)
    sending = group.send([late.made(values(rank, 20_000))], to)
    late.read("receive", group.recv([came], source), came)
    sending.wait()
    return late


def test_every_call_waits_for_what_is_computed_and_is_waited_for(device: FakeCopies) -> None:
    found = together(SIZE, lambda group, rank: act(group, rank, Late(device)))
    device.synchronize()
    for rank, late in enumerate(found):
        assert isinstance(late, Late), late
        total = sum(values(r, 40) for r in range(SIZE))
        want = {
            "all_reduce": [sum(values(r, 5, 9) for r in range(SIZE))],
            "max": [values(2, 70, dtype=torch.bfloat16)],
            "turned": [sum(values(r, 4, 6).t() for r in range(SIZE))],
            "reduce": [total if rank == 1 else values(rank, 40)],
            "broadcast": [values(2, 3, 3)],
            "all_gather": [values(r, 2, 4) for r in range(SIZE)],
            "reduce_scatter": [
                sum(values(r, 18) for r in range(SIZE))[6 * rank : 6 * rank + 6]  # type: ignore[index]
            ],
            "all_to_all": [torch.tensor([values(r, 3)[rank] for r in range(SIZE)])],
            "scatter": [values(rank, 4)],
            "gather": [values(r, 4) for r in range(SIZE)] if rank == 0 else [],
            "receive": [values((rank - 1) % SIZE, 20_000)],
        }
        assert set(late.seen) == set(want)
        for name, right in want.items():
            for got, each in zip(late.seen[name], right, strict=True):
                assert torch.equal(got, each), (rank, name, got, each)


def test_an_aborted_sum_leaves_the_tensor_as_it_was(
    device: FakeCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(self: Any, *rest: Any) -> None:
        rest[1][:] = 55
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("cut off")

    def one(group: ProcessGroupP2P, rank: int) -> torch.Tensor:
        monkeypatch.setattr(type(group.engine._group), "all_reduce", failing)
        mine = Late(device).made(values(rank, 100))
        with pytest.raises(RuntimeError, match="cut off"):
            group.allreduce([mine]).wait()
        return mine

    (mine,) = together(1, one)
    device.synchronize()
    assert len(calls) == 3
    assert torch.equal(mine, values(0, 100))


def test_what_is_on_no_device_that_it_knows_is_refused() -> None:
    def one(group: ProcessGroupP2P, rank: int) -> None:
        with pytest.raises(ValueError, match=r"CPU and CUDA memory, this one is on meta"):
            group.allreduce([torch.zeros(3, device="meta")])

    assert together(1, one) == [None]


@gpu
def test_cuda_tensors() -> None:
    """Sums, moves and a future of CUDA tensors, read on the current stream without waiting."""

    def one(group: ProcessGroupP2P, rank: int) -> list[torch.Tensor]:
        stream: Any = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            mine = values(rank, 3_000_000).cuda()
            group.allreduce([mine]).wait()
            total = mine * 1
            other = values(rank, 100, dtype=torch.bfloat16).cuda()
            future = group.allreduce([other]).get_future()
            doubled = future.then(lambda done: done.value()[0] * 2).wait()
            every = [torch.zeros(5, device="cuda") for _ in range(SIZE)]
            group.allgather([every], [values(rank, 5).cuda()]).wait()
            gathered = torch.cat(every)
            return [total.cpu(), doubled.cpu(), gathered.cpu()]

    for total, doubled, gathered in together(SIZE, one):
        assert torch.equal(total, sum(values(r, 3_000_000) for r in range(SIZE)))
        half = sum(values(r, 100) for r in range(SIZE))
        assert torch.equal(doubled.float(), 2 * half)  # type: ignore[operator]
        assert torch.equal(gathered, torch.cat([values(r, 5) for r in range(SIZE)]))


@gpu
def test_pinned_memory_is_what_other_ranks_can_read() -> None:
    from collectives.shm_memory import MEMORY

    memory = far.copies_of(torch.device("cuda", 0)).memory(100)
    assert torch.from_numpy(memory).is_pinned()
    assert MEMORY.find(memory) is not None
