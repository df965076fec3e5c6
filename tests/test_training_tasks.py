"""The task interface and the built-in tasks: what is wrong is said in one sentence."""

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from p2p.errors import Usage
from p2p.tasks import text
from p2p.tasks.builtin import MNIST_FILES, TASKS, check
from p2p.tasks.digits import Digits
from p2p.tasks.mnist import Mnist
from p2p.tasks.textgpt import TextGpt
from p2p.training import task
from p2p.training.blame import TaskFailed
from p2p.training.run import Run
from p2p.training.spec import JobSpec
from tests.test_training_gradients import Plain
from tests.training_fakes import new_run, steps

SPEC = JobSpec(id="j", task="task.py:T", task_class="T")


def idx(values: np.ndarray[Any, Any]) -> bytes:
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes((0, 0, 8, values.ndim)) + shape + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, samples: int = 30) -> None:
    random = np.random.default_rng(0)
    for number, (images, labels) in enumerate(MNIST_FILES):
        pictures = idx(random.integers(0, 256, (samples, 28, 28)))
        if number:
            (folder / images).write_bytes(pictures)
        else:
            (folder / f"{images}.gz").write_bytes(gzip.compress(pictures, 1))
        (folder / labels).write_bytes(idx(random.integers(0, 10, samples)))


def cut_short(folder: Path) -> None:
    path = folder / MNIST_FILES[1][0]
    path.write_bytes(path.read_bytes()[:-3])


def damage_gzip(folder: Path) -> None:
    path = folder / f"{MNIST_FILES[0][0]}.gz"
    path.write_bytes(path.read_bytes()[:-100])


def remove(folder: Path) -> None:
    (folder / MNIST_FILES[1][1]).unlink()


def swap(folder: Path) -> None:
    (folder / MNIST_FILES[0][1]).write_bytes((folder / MNIST_FILES[1][0]).read_bytes())


def fewer_labels(folder: Path) -> None:
    (folder / MNIST_FILES[0][1]).write_bytes(idx(np.zeros(29)))


def test_registry_and_classes_say_the_same() -> None:
    for name, cls in {"digits": Digits, "mnist": Mnist, "textgpt": TextGpt}.items():
        builtin = TASKS[name]
        assert (builtin.module, builtin.class_name) == (cls.__module__, cls.__name__)


def test_registry_needs_no_torch() -> None:
    program = (
        "import sys, p2p.tasks.builtin as b; b.check('digits', None); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "False\n"


def test_digits_has_all_samples_once_and_a_fixed_split() -> None:
    train, test = (Digits().dataset(split).tensors for split in ("train", "test"))
    assert (len(train[0]), len(test[0])) == (1438, 359)
    assert train[0].shape[1:] == (1, 8, 8)
    assert float(train[0].max()) == 1.0
    assert sorted(set(test[1].tolist())) == list(range(10))
    assert test[1][:6].tolist() == [4, 9, 4, 9, 4, 9]


def test_mnist_trains_on_idx_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    check("mnist", str(tmp_path))
    spec = JobSpec("j", "mnist", "Mnist", shards=4, data=str(tmp_path), global_batch=12, steps=3)
    run = Run(spec, task.create(task.load(spec, str(tmp_path)), spec))
    run.warm_up()
    steps([run], [(0, 4)], 3, {0})
    assert run.position.ledger.lines()[0]["missing"] == 0
    assert run.train.tensors[0].shape == (30, 1, 28, 28)


def text_run(folder: Path, **options: str) -> Run:
    small = {"width": "16", "layers": "1", "heads": "2", "context": "15", **options}
    data, folder_of_source = str(folder), str(folder)
    spec = JobSpec("j", "textgpt", "TextGpt", shards=4, data=data, global_batch=40, options=small)
    run = Run(spec, task.create(task.load(spec, folder_of_source), spec))
    run.warm_up()
    return run


def test_textgpt_learns_the_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"abcdefgh" * 100)
    (tmp_path / "a.txt").write_bytes(b"0123" * 40)
    (tmp_path / ".hidden").write_bytes(b"never read")
    check("textgpt", str(tmp_path))
    run = text_run(tmp_path)
    pieces, (held_out,) = run.train.tensors[0], run.task.dataset("test").tensors
    assert bytes(pieces[0]) == b"0123" * 4
    assert len(pieces) + len(held_out) == (160 + 1 + 800) // 16
    steps([run], [(0, 4)], 1, {0})
    first = run.position.loss
    run.schedule = replace(run.schedule, steps_total=40)
    steps([run], [(0, 4)], 40, {0})
    assert first is not None
    assert run.position.loss is not None
    assert run.position.loss < 0.8 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": "15"}, "--set width=15 must be a multiple of heads=2"),
        ({"layers": "few"}, "--set layers=few: it must be a whole number from 1 up"),
        ({"context": "99"}, "the text has 100 bytes: at least 2000 are needed"),
    ],
)
def test_what_textgpt_cannot_do_is_named(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456789" * 10)
    with pytest.raises(TaskFailed, match=message):
        text_run(tmp_path, **options)


def test_pythons_own_sources_are_there() -> None:
    assert len(text.read(None)) > 1_000_000
    assert text.unigram_bits(b"abcd" * 5) == 2.0
    assert text.unigram_bits(b"a" * 9) == 0.0


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut_short, "t10k-images-idx3-ubyte is damaged: 23533 bytes, 23536 expected"),
        (damage_gzip, "cannot read .*train-images-idx3-ubyte.gz"),
        (remove, "has no t10k-labels-idx1-ubyte and no t10k-labels-idx1-ubyte.gz"),
        (swap, "train-labels-idx1-ubyte is not an IDX file of bytes with 1 dimensions"),
        (fewer_labels, "has 30 pictures, .* 29"),
    ],
)
def test_bad_mnist_files_are_named(
    tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    write_mnist(tmp_path)
    harm(tmp_path)
    with pytest.raises(Usage, match=message):
        check("mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("mnist", None, "mnist needs --data DIR"),
        ("mnist", "/nowhere/at/all", "is not a folder"),
        ("digits", "/tmp", "digits brings its own data"),
        ("digit", None, "no built-in task 'digit': there are digits, mnist, textgpt, or give FILE"),
        ("textgpt", "/nowhere/at/all", "neither a file nor a folder"),
    ],
)
def test_bad_requests_are_named(name: str, data: str | None, message: str) -> None:
    with pytest.raises(Usage, match=message):
        check(name, data)


def test_flags_stand_above_the_class() -> None:
    class Asking(Plain):
        def __init__(self, options: Any) -> None:
            self.seen = (options.lr, self.lr, self.global_batch, options["depth"], options.seed)
            self.width = options.get("width", "8")

    spec = JobSpec("j", "t.py:A", "A", lr=0.5, seed=9, options={"depth": "3"})
    user = task.create(Asking, spec).user
    assert user.seen == (0.5, 0.5, 20, "3", 9)
    assert user.width == "8"
    with pytest.raises(TaskFailed, match="the task needs --set depth="):
        task.create(Asking, JobSpec("j", "t.py:A", "A"))


def test_the_class_needs_no_base_and_no_init() -> None:
    assert new_run(Plain, shards=2, epochs=2).schedule.steps_total == 12
    assert new_run(Plain, shards=2, epochs=2, steps=5).schedule.steps_total == 5


@pytest.mark.parametrize(
    ("method", "gives", "message"),
    [
        ("model", None, r"model\(\) gave None, not a torch.nn.Module"),
        ("optimizer", 3, r"optimizer\(\) gave a int"),
        ("dataset", iter(()), r"gave a tuple_iterator, not a map-style dataset"),
        ("dataset", [], r'dataset\("train"\) is empty'),
        ("loss", torch.zeros(3), r"loss\(\) gave a tensor of shape \(3,\), not one number"),
        ("loss", torch.zeros(()), "does not require grad"),
        ("evaluate", 0.5, r"evaluate\(\) gave a float, not a dict"),
        ("evaluate", {"accuracy": 1.0}, "gave 1 values of 'accuracy' for 2 samples"),
        ("global_batch", None, "has no global_batch"),
        ("epochs", None, "has no epochs"),
    ],
)
def test_wrong_answers_are_named(method: str, gives: Any, message: str) -> None:
    value = (lambda *_: gives) if callable(getattr(Plain, method, len)) else gives
    cls = type("Wrong", (Plain,), {method: value})
    with pytest.raises(TaskFailed, match=message):
        new_run(cls, shards=2)


class Listed(Dataset[tuple[torch.Tensor, int]]):
    """Sample by sample, or many at once by __getitems__."""

    def __init__(self, many: bool) -> None:
        self.samples = list(zip(*Plain().dataset("train").tensors, strict=True))
        if many:
            self.__getitems__ = lambda at: [self.samples[i] for i in at]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        assert type(index) is int
        return self.samples[index]


def test_any_map_style_dataset_gives_the_same_batches() -> None:
    def trained(dataset: Any) -> str:
        cls = type("T", (Plain,), {"dataset": lambda self, split: dataset})
        run = new_run(cls, shards=3)
        steps([run], [(0, 3)], 3, {0})
        return run.hash()

    tensors = Plain().dataset("train")
    assert len({trained(d) for d in (tensors, Listed(False), Listed(True))}) == 1


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    spec = JobSpec("j", "t.py:T", "T", task_source=b"class T: pass\n", task_sha="0" * 64)
    with pytest.raises(Usage, match="altered on the way"):
        task.load(spec, str(tmp_path))


class Counting(Plain):
    """Says numbers of its own; what it is else, Plain is as well."""

    def loss(self, model: Any, batch: Any) -> Any:
        self.add_metric("samples", len(batch[0]))  # type: ignore[attr-defined]
        found = super().loss(model, batch)
        self.add_metric("own loss", found)  # type: ignore[attr-defined]
        return found


class Named(Plain):
    def add_metric(self) -> str:
        return "mine"


def test_a_task_s_own_numbers_change_no_bit() -> None:
    plain, counting = new_run(Plain), new_run(Counting)
    counting.task.figures.take()  # of the warm-up
    for run in (plain, counting):
        steps([run], [(0, 12)], 2, {0})
    assert plain.hash() == counting.hash()
    told = counting.task.figures.take()
    assert told["metric.samples"][:2] == [1.0, 2.0]
    assert told["metric.samples"][4] == 24
    low, high, mean, last, _ = told["metric.own loss"]
    assert 0 < low <= mean <= high
    assert low <= last <= high
    assert told["gradient_norm"][0] > 0
    assert new_run(Named).task.user.add_metric() == "mine", "a task's own method stays"
