"""Every built-in task: the same bits for 1 to 5 trainers, through kills, joins, other shares of the
shards, a pause and a restore onto another number of trainers.

PARITY_SEEDS=50 python -m pytest tests/test_builtin_parity.py     more of it: `make parity`
"""

import os
from functools import cache
from random import Random

import pytest

from p2p.training import task
from p2p.training.run import Run
from p2p.training.spec import JobSpec
from tests.test_training_storm import live
from tests.test_training_tasks import write_mnist
from tests.training_fakes import steps

SHARDS = 5
STEPS = {"digits": 5, "mnist": 2, "textgpt": 5}
SEEDS = range(int(os.environ.get("PARITY_SEEDS", "1")))
SMALL_GPT = {"width": "16", "layers": "1", "heads": "2", "context": "15"}
SPECS = {
    "digits": JobSpec("j", "digits", "Digits", global_batch=60),
    "mnist": JobSpec("j", "mnist", "Mnist", global_batch=11),  # 30 samples: a short last batch
    "textgpt": JobSpec(
        *("j", "textgpt", "TextGpt"),
        global_batch=20,
        options={**SMALL_GPT, "dropout": "10", "schedule": "cosine"},
    ),
}
# The largest one is left to `make parity`.
CASES = [(n, seed) for n in SPECS for seed in SEEDS if n != "mnist" or len(SEEDS) > 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Where each task's data lies."""
    folder, text = tmp_path_factory.mktemp("mnist"), tmp_path_factory.mktemp("text") / "text"
    write_mnist(folder)
    text.write_bytes(bytes(Random(0).choices(range(256), k=1500)))
    return {"digits": None, "mnist": str(folder), "textgpt": str(text)}


def begun(name: str, where: str | None) -> Run:
    spec = JobSpec(
        **{**vars(SPECS[name]), "shards": SHARDS, "steps": STEPS[name], "seed": 5, "data": where}
    )
    run = Run(spec, task.create(task.load(spec, "unused"), spec))
    run.warm_up()
    return run


@cache
def all_five(name: str, where: str | None) -> tuple[list[Run], bytes, str, str]:
    """Five trainers' runs, the initial state, its hash, and the hash at the end of an undisturbed
    run of one trainer."""
    runs = [begun(name, where) for _ in range(5)]
    first, digest = runs[0].pack(), runs[0].hash()
    while not runs[0].done:
        steps(runs[:1], [(0, SHARDS)], 1, {0})
    return runs, first, digest, runs[0].hash()


def fresh(name: str, where: str | None) -> tuple[list[Run], str]:
    """Five runs at their beginning, and how they should end."""
    runs, first, digest, end = all_five(name, where)
    for run in runs:
        run.restore(first, digest)
    return runs, end


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_a_built_in_ends_with_the_same_bits_whatever_happens(
    name: str, seed: int, data: dict[str, str | None]
) -> None:
    random = Random(seed)
    pool, end = fresh(name, data[name])
    sizes = [1, 2, 3, 4, 5]
    random.shuffle(sizes)
    for count in sizes:  # whoever is in was perhaps far behind; the end comes at any operation
        if max(run.position.step for run in pool) < STEPS[name]:
            live(random.sample(pool, count), random, None)
    newest = max(pool, key=lambda run: run.position.step)
    saved, digest = newest.pack(), newest.hash()  # a checkpoint; then all trainers end
    pool = fresh(name, data[name])[0][: random.randint(1, 5)]
    pool[0].restore(saved, digest)
    live(pool, random, STEPS[name])
    assert {run.hash() for run in pool} == {end}
    assert {row["repeated"] for run in pool for row in run.position.ledger.lines()} == {0}


@pytest.mark.parametrize("name", SPECS)
def test_a_built_in_has_the_same_bits_for_1_to_5_trainers(
    name: str, data: dict[str, str | None]
) -> None:
    for count in range(2, 6):
        pool, end = fresh(name, data[name])
        live(pool[:count], Random(count), STEPS[name])
        assert {run.hash() for run in pool[:count]} == {end}


def test_dropout_batchnorm_and_a_schedule_are_among_them(data: dict[str, str | None]) -> None:
    runs = {name: begun(name, data[name]) for name in SPECS}
    kinds = {n: {type(m).__name__ for m in run.model.modules()} for n, run in runs.items()}
    assert all("Dropout" in found for found in kinds.values())
    assert "BatchNorm2d" in kinds["mnist"]
    assert runs["mnist"].state.rates.scheduler is not None
    assert runs["textgpt"].state.rates.scheduler is not None
