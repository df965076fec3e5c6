"""One process of the all-reduce benchmark: every contender, size by size, in turns.

    python -m tools.bench.allreduce_worker PLAN RANK        (or under mpirun, which says the rank)

PLAN is a JSON file: processes, sizes, contenders, folder. Writes the seconds of every round, and
those of processor time (all threads), to FOLDER/RANK.json. A round of all contenders follows the
other, so a busy machine slows them all.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, Store

from collectives.plane import CurveKeys, Endpoints, Group
from collectives.shm_memory import empty
from tools.bench.linked import Linked

ROUND_SECONDS = 2.0  # about as long as the rounds of one contender and size may take
ROUNDS_MIN, ROUNDS_MAX = 7, 200
WARM_ROUNDS = 3  # connect and touch memory for the first time

Measured = dict[str, list[tuple[float, float]]]
Act = Callable[[Any, Any], None]  # (source, out), both float32[n] of numpy


class Ours:
    """A group of ours over one kind of link."""

    def __init__(self, link: str, plan: dict[str, Any], rank: int, store: Store) -> None:
        keys = CurveKeys(*(key.encode() for key in plan["keys"]))
        linked = Linked(link, rank, f"{plan['folder']}/{link}", keys)
        self.plane = linked.plane
        store.set(f"{link}/{rank}", json.dumps(self.plane.endpoints.to_wire()))
        wires = [store.get(f"{link}/{other}") for other in range(plan["processes"])]
        linked.meet([Endpoints.from_wire(json.loads(wire)) for wire in wires])
        self.group: Group = linked.enter()

    def __call__(self, source: Any, out: Any) -> None:
        self.group.all_reduce(source, out, "sum")


def by_gloo(source: Any, out: Any) -> None:
    """In place, as gloo works: `out` holds the source before."""
    dist.all_reduce(torch.from_numpy(out))


def by_mpi() -> Act:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    return lambda source, out: world.Allreduce(source, out, MPI.SUM)


def main() -> int:
    plan = json.loads(Path(sys.argv[1]).read_text())
    rank = int(sys.argv[2] if len(sys.argv) > 2 else os.environ["OMPI_COMM_WORLD_RANK"])
    torch.set_num_threads(1)
    contenders: dict[str, Act] = {}
    if "mpi" in plan["contenders"]:
        contenders["mpi"] = by_mpi()  # first: it starts its own threads
    store = FileStore(f"{plan['folder']}/store", plan["processes"])
    dist.init_process_group("gloo", store=store, rank=rank, world_size=plan["processes"])
    pace = Ours("pace", plan, rank, store)
    links = [Ours(name, plan, rank, store) for name in plan["links"]]
    contenders |= dict(zip(plan["links"], links, strict=True))
    if "gloo" in plan["contenders"]:
        contenders["gloo"] = by_gloo
    told = [_measure(size, contenders, pace.group) for size in plan["sizes"]]
    Path(f"{plan['folder']}/{rank}.json").write_text(json.dumps(told))
    pace.group.barrier()
    for one in (*links, pace):
        one.plane.close()
    dist.destroy_process_group()
    return 0


def _measure(size: int, contenders: dict[str, Act], pace: Group) -> Measured:
    """(seconds, of the processor) per round, on this rank. All do the same number of rounds."""
    source, out = empty(size // 4, np.float32), empty(size // 4, np.float32)
    source[:] = np.random.default_rng(pace.rank).standard_normal(size // 4)
    first: Any = None
    seconds: Measured = {name: [] for name in contenders}
    rounds, done = WARM_ROUNDS + ROUNDS_MIN, 0
    while done < rounds:
        for name, act in contenders.items():
            np.copyto(out, source)
            pace.barrier()
            started, busy = time.perf_counter(), time.process_time()
            act(source, out)
            taken = time.perf_counter() - started
            seconds[name].append((taken, time.process_time() - busy))
            if done == 0:
                first = out.copy() if first is None else first
                assert np.allclose(out, first, rtol=1e-3, atol=1e-3), f"{name} sums otherwise"
        done += 1
        if done == WARM_ROUNDS:
            one = max(rounds_of[-1][0] for rounds_of in seconds.values())
            told = pace.all_gather(str(int(ROUND_SECONDS / max(one, 1e-6))).encode())
            fit = min(max(min(map(int, told)), ROUNDS_MIN), ROUNDS_MAX)
            rounds = WARM_ROUNDS + fit
            seconds = {name: [] for name in contenders}
    return seconds


if __name__ == "__main__":
    sys.exit(main())
