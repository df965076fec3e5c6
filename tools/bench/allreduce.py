"""All-reduce (float32, sum) of our ring and of torch's gloo, by the same processes in turns.

Both run in every round, one right after the other, so a busy machine slows both. A round takes as
long as its slowest rank; the table shows the median round. Both directions of one host: our ring
uses ipc here, gloo TCP over the loopback; `--tcp` makes the ring use TCP with CURVE as well.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import zmq

from collectives import exchange
from collectives.call import Array
from collectives.plane import CurveKeys, DataPlane, Endpoints, Group

SIZES = "4K,64K,1M,4M,16M,64M"
UNITS = {"K": 10, "M": 20}
ROUND_SECONDS = 2.0  # about as long as the rounds of one size may take
ROUNDS_MIN, ROUNDS_MAX = 9, 200


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench allreduce", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help=f"bytes, K and M allowed ({SIZES})")
    parser.add_argument("--processes", default="2,3", help="how many at a time (2,3)")
    parser.add_argument("--chunk", default=None, help="chunk of our ring, bytes")
    parser.add_argument("--tcp", action="store_true", help="our ring over TCP with CURVE, not ipc")
    parser.add_argument("--json", action="store_true", help="one object per line")
    chosen = parser.parse_args(arguments)
    try:
        sizes = [_bytes(word) for word in chosen.sizes.split(",")]
        counts = [int(word) for word in chosen.processes.split(",")]
        chunk = _bytes(chosen.chunk) if chosen.chunk else exchange.CHUNK_BYTES
    except ValueError as error:
        parser.error(f"not a list of numbers: {error}")
    if not chosen.json:
        print(f"all-reduce, float32 sum, {'TCP+CURVE' if chosen.tcp else 'ipc'}, chunk {chunk}")
        print(f"{'processes':>9} {'bytes':>10} {'rounds':>6} {'ring ms':>9} {'gloo ms':>9}  ratio")
    for count in counts:
        for row in measure(count, sizes, chunk, chosen.tcp):
            print(json.dumps(row) if chosen.json else _line(row), flush=True)
    return 0


def _line(row: dict[str, float]) -> str:
    return (
        f"{row['processes']:9.0f} {row['bytes']:10.0f} {row['rounds']:6.0f} {row['ring_ms']:9.3f} "
        f"{row['gloo_ms']:9.3f}  {row['gloo_ms'] / row['ring_ms']:5.2f}x"
    )


def _bytes(word: str) -> int:
    unit = UNITS.get(word[-1:].upper(), 0)
    return int(word[:-1] if unit else word) << unit


def measure(count: int, sizes: list[int], chunk: int, tcp: bool) -> list[dict[str, float]]:
    """One row per size, by `count` fresh processes."""
    spawn = multiprocessing.get_context("spawn")
    keys = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
    with tempfile.TemporaryDirectory() as folder:
        pipes, workers = [], []
        for rank in range(count):
            ours, theirs = spawn.Pipe()
            plan = (rank, count, sizes, chunk, tcp, keys, folder, theirs)
            worker = spawn.Process(target=work, args=plan, daemon=True)
            worker.start()
            theirs.close()
            pipes.append(ours)
            workers.append(worker)
        endpoints = [pipe.recv() for pipe in pipes]
        for pipe in pipes:
            pipe.send(endpoints)
        seconds = [pipe.recv() for pipe in pipes]
        for worker in workers:
            worker.join()
    rows = []
    for at, size in enumerate(sizes):
        row: dict[str, float] = {"processes": count, "bytes": size}
        for name in ("ring", "gloo"):
            rounds = [max(one) for one in zip(*(of[at][name] for of in seconds), strict=True)]
            row["rounds"] = len(rounds)
            row[f"{name}_ms"] = statistics.median(rounds) * 1e3
        rows.append(row)
    return rows


def work(
    rank: int,
    count: int,
    sizes: list[int],
    chunk: int,
    tcp: bool,
    keys: CurveKeys,
    folder: str,
    parent: Connection,
) -> None:
    """One process: both rivals, size by size; sends the seconds of every round to the parent."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    exchange.CHUNK_BYTES = chunk
    plane = DataPlane("127.0.0.1", f"{folder}/ipc", keys)
    parent.send(plane.endpoints)
    members: list[Endpoints] = parent.recv()
    if tcp:
        members = [replace(member, host="elsewhere") for member in members]
    group = plane.enter("bench", 1, rank, members)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count
    )
    measured = []
    for size in sizes:
        source = np.random.default_rng(rank).standard_normal(size // 4).astype(np.float32)
        out, tensor = np.empty_like(source), torch.empty(size // 4)

        def by_ring(source: Array = source, out: Array = out) -> None:
            group.all_reduce(source, out, "sum")

        def by_gloo(tensor: torch.Tensor = tensor) -> None:
            dist.all_reduce(tensor)

        def refill(tensor: torch.Tensor = tensor, source: Array = source) -> None:
            tensor.copy_(torch.from_numpy(source))

        measured.append(_rounds(group, by_ring, by_gloo, refill))
        assert np.allclose(out, tensor.numpy(), rtol=1e-4, atol=1e-4), "the two sums differ"
    parent.send(measured)
    group.all_gather(b"")
    dist.destroy_process_group()
    plane.close()


def _rounds(
    group: Group,
    by_ring: Callable[[], None],
    by_gloo: Callable[[], None],
    refill: Callable[[], None],
) -> dict[str, list[float]]:
    """Seconds per round of each, on this rank. All ranks do the same number of rounds."""
    seconds: dict[str, list[float]] = {"ring": [], "gloo": []}
    rounds = ROUNDS_MIN
    done = 0
    while done < rounds:
        refill()  # gloo works in place
        for name, act in (("ring", by_ring), ("gloo", by_gloo)):
            group.all_gather(b"")
            started = time.perf_counter()
            act()
            seconds[name].append(time.perf_counter() - started)
        done += 1
        if done == 3:  # the first rounds connect and touch memory for the first time
            one = max(seconds["ring"][-1] + seconds["gloo"][-1], 1e-6)
            fit = str(int(ROUND_SECONDS / one)).encode()
            agreed = min(int(word) for word in group.all_gather(fit))
            rounds = 3 + min(max(agreed, ROUNDS_MIN), ROUNDS_MAX)
            seconds = {"ring": [], "gloo": []}
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
