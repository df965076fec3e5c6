"""Runs of small tasks in this process, stepping together over groups without sockets."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from p2p.training import task as tasks
from p2p.training.layout import Wish
from p2p.training.run import Run
from p2p.training.spec import parse
from tests.fake_group import groups, together


def new_run(cls: type, **spec: Any) -> Run:
    """A run of the task `cls` in this process, warmed up."""
    wire = {"id": "j", "task": "t.py:T", "task_class": "T", "seed": 3, **spec}
    parsed = parse(wire)
    run = Run(parsed, tasks.create(cls, parsed))
    run.warm_up()
    return run


def steps(
    runs: Sequence[Run], cuts: Sequence[tuple[int, int]], count: int, apply_on: set[int]
) -> None:
    """`count` rounds, run i computing shards cuts[i]; on the last, only `apply_on` apply it."""
    for number in range(count):
        last = number == count - 1
        made = groups(len(runs))
        together([partial(run.strategy.enter, made[i], cuts) for i, run in enumerate(runs)])
        for rank, run in enumerate(runs):
            # One after the other: torch's and numpy's generators belong to the whole process.
            run.strategy.compute(run.position.step, run.batches(), cuts[rank], lambda: None)
        calls = [
            partial(run.strategy.exchange, made[rank], run.position.step, Wish.NOTHING)
            for rank, run in enumerate(runs)
        ]
        for rank, result in enumerate(together(calls)):
            if not last or rank in apply_on:
                runs[rank].apply(result)
