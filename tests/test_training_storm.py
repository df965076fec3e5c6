"""Any members, any shards, an end of the generation at any operation: the same bits as undisturbed.

python -m pytest tests/test_training_storm.py -k "<strategy> and <seed>"     replays a failure
"""

import threading
from collections.abc import Callable
from queue import Empty
from random import Random
from typing import Any, cast

import pytest

from collectives.errors import Aborted
from collectives.operations import Group
from p2p.training.catchup import catch_up
from p2p.training.layout import Wish
from p2p.training.method import Method
from p2p.training.run import Run
from p2p.training.strategies.strategy import Result
from tests.fake_group import FakeGroup, Hub, together
from tests.test_training_gradients import Plain
from tests.training_fakes import new_run, steps

SHARDS = 5
STEPS = 13
POOL = 4


class Breaking(FakeGroup):
    """Rank `breaker` ends the generation at its operation number `at`, before or after it."""

    def __init__(self, hub: Hub, rank: int, at: int | None, after: bool) -> None:
        super().__init__(hub, rank)
        self._left, self._after = at, after

    def all_reduce(self, *arguments: Any) -> None:
        self._do(lambda: FakeGroup.all_reduce(self, *arguments))

    def all_gather_arrays(self, *arguments: Any) -> None:
        self._do(lambda: FakeGroup.all_gather_arrays(self, *arguments))

    def all_gather(self, payload: bytes) -> list[bytes]:
        return cast(list[bytes], self._do(lambda: FakeGroup.all_gather(self, payload)))

    def send(self, to: int, payload: memoryview | bytes, tag: int = 0) -> None:
        self._do(lambda: FakeGroup.send(self, to, payload, tag))

    def receive(self, source: int, out: memoryview | None = None, tag: int = 0) -> memoryview:
        return cast(memoryview, self._do(lambda: self._receive(source, out, tag)))

    def _receive(self, source: int, out: memoryview | None, tag: int) -> memoryview:
        while not self.hub.barrier.broken:
            try:
                data = self.hub.mail(source, self.rank, tag).get(timeout=0.01)
            except Empty:
                continue
            if out is None:
                return memoryview(data)
            out[:] = data
            return out
        raise Aborted("over")

    def _do(self, call: Callable[[], Any]) -> Any:
        if self._left is not None:
            self._left -= 1
        if self._left == 0 and not self._after:
            self.hub.barrier.abort()
        try:
            answer = call()
        except threading.BrokenBarrierError as error:
            raise Aborted("over") from error
        if self._left == 0 or self.hub.barrier.broken:
            self.hub.barrier.abort()
            raise Aborted("over")
        return answer


def outcome(call: Callable[[], Any]) -> Any:
    """What it gives, or the Aborted that it raises."""
    try:
        return call()
    except Aborted as aborted:
        return aborted


def live(runs: list[Run], random: Random, until: int | None) -> None:
    """One generation of these runs: to the step `until`, or to an end somewhere."""
    hub, breaker = Hub(len(runs)), random.randrange(len(runs))
    at = random.randrange(1, 16) if until is None else None
    made = [
        cast(Group, Breaking(hub, rank, at if rank == breaker else None, random.random() < 0.5))
        for rank in range(len(runs))
    ]
    shards = runs[0].schedule.shards
    bounds = sorted(random.choices(range(shards + 1), k=len(runs) - 1))
    cuts = list(zip([0, *bounds], [*bounds, shards], strict=True))

    def begin(rank: int) -> None:
        catch_up(made[rank], runs[rank])
        runs[rank].remember()
        runs[rank].strategy.enter(made[rank], cuts)

    ranks = range(len(runs))
    entered = together([lambda r=r: outcome(lambda: begin(r)) for r in ranks])
    while not any(isinstance(told, Aborted) for told in entered):
        step = runs[0].position.step
        if step == (until or runs[0].schedule.steps_total):
            return
        for rank, run in enumerate(runs):
            run.strategy.compute(step, run.batches(), cuts[rank], lambda: None)
        entered = together([lambda r=r: outcome(lambda: one(runs[r], made[r])) for r in ranks])


def one(run: Run, group: Group) -> Result:
    result = run.strategy.exchange(group, run.position.step, Wish.NOTHING)
    run.apply(result)
    return result


CASES = [
    ("ring", "int32"),
    ("ring", "int8"),
    ("ring", "topk:0.1"),
    ("ring", "powersgd:1"),
    ("local-sgd", "int32"),
    ("parameter-server", "int32"),
    ("robust", "int32"),
]
REMEMBERING = ("topk:0.1", "powersgd:1")
REFERENCES: dict[tuple[str, str], str] = {}


def begun(strategy: str, codec: str) -> Run:
    options = {"local_steps": "2"}
    return new_run(
        *(Plain,), strategy=strategy, codec=codec, options=options, shards=SHARDS, steps=STEPS
    )


def reference(strategy: str, codec: str) -> str:
    if (strategy, codec) not in REFERENCES:
        run = begun("ring" if strategy == "parameter-server" else strategy, codec)
        while not run.done:
            steps([run], [(0, SHARDS)], 1, {0})
        REFERENCES[strategy, codec] = run.hash()
    return REFERENCES[strategy, codec]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("strategy", "codec"), CASES)
def test_a_disturbed_run_ends_with_the_same_bits(strategy: str, codec: str, seed: int) -> None:
    random = Random(seed)
    pool = [begun(strategy, codec) for _ in range(POOL)]
    generations = 0
    while max(run.position.step for run in pool) < STEPS and generations < 60:
        # The memory of errors is lost with its holder, so there nobody is left out.
        count = POOL if codec in REMEMBERING else random.randint(1, POOL)
        live(random.sample(pool, count), random, None)
        generations += 1
    live(pool, random, STEPS)
    together([lambda g=g, run=run: run.settle(g) for g, run in zip(_whole(), pool, strict=True)])
    assert {run.position.step for run in pool} == {STEPS}
    (digest,) = {run.hash() for run in pool}
    if strategy != "robust":  # whose result depends on who has which shards
        assert digest == reference(strategy, codec)
    lines = pool[0].position.ledger.lines()
    assert [(line["repeated"], line["missing"]) for line in lines] == [(0, 0)] * len(lines)


METHODS = [
    ("ring", "int32"),
    ("ring", "topk:0.1"),
    ("ring", "powersgd:1"),
    ("local-sgd", "int8"),
    ("parameter-server", "int16"),
    ("robust", "int32"),
]


@pytest.mark.parametrize("seed", range(4))
def test_strategies_may_change_in_any_disorder(seed: int) -> None:
    """Which steps went by which method is chance here; that all agree at the end is not."""
    random = Random(seed)
    pool = [begun("ring", "int32") for _ in range(POOL)]
    revision, method = 0, None
    for _ in range(60):
        if random.random() < 0.5:
            revision += 1
            method = Method(*random.choice(METHODS), {"local_steps": "2"}, revision)
        # One that is farthest is always there: else its state would be lost, and so would it.
        newest = max(pool, key=lambda run: run.position.step)
        others = [run for run in pool if run is not newest]
        members = [newest, *random.sample(others, random.randint(0, len(others)))]
        random.shuffle(members)
        for run in members:
            run.use(method)
        live(members, random, None)
        if max(run.position.step for run in pool) == STEPS:
            break
    for run in pool:
        run.use(method)
    live(pool, random, STEPS)
    together([lambda g=g, run=run: run.settle(g) for g, run in zip(_whole(), pool, strict=True)])
    assert len({(run.position.step, run.hash()) for run in pool}) == 1
    lines = pool[0].position.ledger.lines()
    assert [(line["repeated"], line["missing"]) for line in lines] == [(0, 0)] * len(lines)


def _whole() -> list[Group]:
    hub = Hub(POOL)
    return [cast(Group, FakeGroup(hub, rank)) for rank in range(POOL)]
