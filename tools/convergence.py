"""How well every strategy and codec learns, and what it sends: digits, from the same beginning.

Trainers of one process, each with a data plane of its own; they compute one after the other and
exchange at the same time. `sent` is what a trainer has to send in an exchange (an all-reduce of n
bytes among N: 2 n (N-1)/N), without headers; `seconds` are those of the whole run in this process.

    python -m tools.convergence [--trainers N] [--epochs N] [--cells ring:int8,local-sgd:int32]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from collectives.operations import Group
from collectives.plane import CurveKeys, DataPlane, Endpoints
from p2p.errors import Usage
from p2p.training import task
from p2p.training.layout import Wish
from p2p.training.run import Run
from p2p.training.spec import parse
from tools.bench.linked import fresh_keys

# Strategy, codec, options: what makes sense together. A new strategy or codec = one line.
# The option `noise` is ours: so many trainers exchange noise for their gradients.
CELLS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("ring", "int32", {}),
    ("ring", "int16", {}),
    ("ring", "int8", {}),
    ("ring", "bf16", {}),
    ("ring", "float32", {}),
    ("ring", "topk:0.1", {}),
    ("ring", "topk:0.01", {}),
    ("ring", "powersgd:2", {}),
    ("ring", "powersgd:4", {}),
    ("local-sgd", "int32", {"local_steps": "8"}),
    ("local-sgd", "int8", {"local_steps": "8"}),
    ("local-sgd", "int32", {"local_steps": "8", "inner_state": "reset"}),
    ("local-sgd", "int8", {"local_steps": "24", "inner_state": "reset"}),
    ("parameter-server", "int32", {}),
    ("parameter-server", "int8", {}),
    ("ring", "int32", {"noise": "1"}),
    ("robust", "int32", {"rule": "median"}),
    ("robust", "int32", {"rule": "median", "noise": "1"}),
    ("robust", "int32", {"rule": "trimmed"}),
    ("robust", "int32", {"rule": "trimmed", "noise": "1"}),
    ("robust", "int32", {"rule": "krum"}),
    ("robust", "int32", {"rule": "krum", "noise": "1"}),
)
NOISE = 0.1  # its standard deviation; a gradient of digits has about a tenth of that per value


@dataclass(frozen=True)
class Row:
    """`sent` = bytes by one trainer in the whole run; `state_hash` that of all trainers; `said` =
    what they would have people know."""

    accuracy: float
    loss: float
    steps: int
    sent: float
    seconds: float
    state_hash: str
    said: str


class Alone:
    """For an evaluation by one trainer."""

    rank, size = 0, 1

    def all_reduce(self, source: Any, out: Any, op: str) -> None:
        np.copyto(out, source)


class Trainer:
    """One rank; its data plane belongs to a thread of its own."""

    def __init__(self, wire: dict[str, Any], keys: CurveKeys, folder: str) -> None:
        spec = parse(wire)
        self.run = Run(spec, task.create(task.load(spec, folder), spec))
        self.run.warm_up()
        self._thread = ThreadPoolExecutor(1)
        self._plane = self.do(lambda: DataPlane("127.0.0.1", folder, keys)).result()
        self.endpoints = self._plane.endpoints
        self.group: Group

    def do(self, call: Callable[[], Any]) -> "Future[Any]":
        return self._thread.submit(call)

    def enter(self, rank: int, members: Sequence[Endpoints], shards: list[tuple[int, int]]) -> None:
        self.shards = shards[rank]
        self.group = self._plane.enter("convergence", 1, rank, members)
        self.run.strategy.enter(self.group, shards)

    def send_noise(self, step: int) -> None:
        rows = self.run.gradients.rows
        random = np.random.default_rng([self.group.rank, step])
        rows[...] = NOISE * random.standard_normal(rows.shape, np.float32)

    def exchange(self) -> Any:
        group, step = self.group, self.run.position.step
        return self.run.strategy.exchange(group, step, Wish.NOTHING)

    def settle(self) -> None:
        """Have the whole state, where the strategy spreads it over trainers."""
        self.run.settle(self.group)

    def close(self) -> None:
        self.do(self._plane.close).result()
        self._thread.shutdown()


def measure(
    strategy: str, codec: str, options: dict[str, str], trainers: int, **fields: Any
) -> Row:
    """Train once, on so many trainers of this process. `fields` are those of a job."""
    wire = {"id": "j", "task": "digits", "task_class": "", "seed": 1, **fields}
    wire |= {"strategy": strategy, "codec": codec, "options": options}
    noisy = int(options.get("noise", 0))
    keys = fresh_keys()
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        made = [Trainer(wire, keys, folder) for _ in range(trainers)]
        shards = made[0].run.schedule.shards
        cuts = [(shards * i // trainers, shards * (i + 1) // trainers) for i in range(trainers)]
        members = [each.endpoints for each in made]
        began = time.monotonic()
        try:
            for entering in [
                each.do(lambda e=each, i=i: e.enter(i, members, cuts))  # type: ignore[misc]
                for i, each in enumerate(made)
            ]:
                entering.result()
            while not made[0].run.done:
                _round(made, noisy)
            seconds = time.monotonic() - began
            for settling in [each.do(each.settle) for each in made]:
                settling.result()
            return _row(made, seconds)
        finally:
            for each in made:
                each.close()


def _round(made: list[Trainer], noisy: int) -> None:
    for left, each in zip(range(len(made), 0, -1), made, strict=True):
        run = each.run
        run.strategy.compute(run.position.step, run.batches(), each.shards, lambda: None)
        if left <= noisy:
            each.send_noise(run.position.step)
    for each, exchanged in [(each, each.do(each.exchange)) for each in made]:
        each.run.apply(exchanged.result())


def _row(made: list[Trainer], seconds: float) -> Row:
    hashes = {each.run.hash() for each in made}
    assert len(hashes) == 1, "the trainers have other weights than each other"
    run = made[0].run
    shards = run.schedule.shards
    metrics = run.evaluation.run(cast(Group, Alone()), 0, (0, shards), lambda: None)
    sent = statistics.mean(each.group.given_bytes for each in made)
    assert run.position.loss is not None
    told = [
        notice.text if notice.rank is None else f"trainer {notice.rank}: {notice.text}"
        for notice in run.strategy.notices()
    ]
    return Row(
        *(metrics["accuracy"], run.position.loss, run.position.step, sent, seconds),
        *(hashes.pop(), "; ".join(told)),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.convergence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trainers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--cells", help="'STRATEGY [OPTIONS]:CODEC',… of the table (all)")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    wanted = chosen.cells.split(",") if chosen.cells else None
    print(f"digits, {chosen.epochs} epochs, {chosen.shards} shards, {chosen.trainers} trainers")
    print(f"{'strategy':<40} {'codec':<12} {'accuracy':>8} {'loss':>8} {'sent/step':>10} {'s':>6}")
    for strategy, codec, options in CELLS:
        name = " ".join([strategy, *(f"{key}={value}" for key, value in options.items())])
        if wanted is not None and not {f"{strategy}:{codec}", f"{name}:{codec}"} & set(wanted):
            continue
        fields = {"epochs": chosen.epochs, "shards": chosen.shards}
        try:
            row = measure(strategy, codec, options, chosen.trainers, **fields)
        except Usage as error:
            print(f"{name:<40} {codec:<12} {error}")
            continue
        per_step = f"{row.sent / row.steps / 1000:.1f} KB"
        print(
            f"{name:<40} {codec:<12} {row.accuracy:>8.4f} {row.loss:>8.4f} {per_step:>10} "
            f"{row.seconds:>6.1f}  {row.said}".rstrip(),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
