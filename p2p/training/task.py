"""The user's task: found, checked, and called. Every call names the task's file when it fails."""

import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import TensorDataset, default_collate

from p2p import task_files
from p2p.errors import Usage
from p2p.tasks.builtin import TASKS
from p2p.training.blame import TaskFailed, user_code
from p2p.training.figures import Figures
from p2p.training.order import Indices
from p2p.training.rates import Rates
from p2p.training.spec import JobSpec, file_name

MODULE_NAME = "p2p_task"  # what the user's file is imported as
NEEDED = {
    "model": "model(self)",
    "dataset": "dataset(self, split)",
    "loss": "loss(self, model, batch)",
    "optimizer": "optimizer(self, model)",
}


class Options:
    """What the task may ask for: `options.data`, `.seed`, `.lr` …; `options["key"]` of --set."""

    def __init__(self, spec: JobSpec, defaults: Mapping[str, Any]) -> None:
        self.data = spec.data
        self.seed = spec.seed
        self.lr: float | None = spec.lr if spec.lr is not None else defaults.get("lr")
        self.global_batch: int | None = spec.global_batch or defaults.get("global_batch")
        self.epochs: int | None = spec.epochs or defaults.get("epochs")
        self.steps_total: int | None = None  # known by the time that schedule() is called
        self._set = dict(spec.options or {})
        self.figures = Figures()

    def __getitem__(self, key: str) -> str:
        if key not in self._set:
            raise Usage(f"the task needs --set {key}=…")
        return self._set[key]

    def get(self, key: str, default: str | None = None) -> str | None:
        return self._set.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._set


class Task:
    """The user's object, with every call checked."""

    def __init__(self, user: Any, file: str | None, options: Options) -> None:
        self.user, self.file, self.options = user, file, options
        self.figures = options.figures
        self.can_evaluate = callable(getattr(user, "evaluate", None))
        self.can_aggregate = callable(getattr(user, "aggregate", None))
        self._collate = getattr(user, "collate", default_collate)
        self.accumulate: int = self._setting("accumulate", 1, int)
        self.clip_norm: float | None = self._setting("clip_norm", None, int | float)
        self._is_bf16 = self._precision() == "bf16"

    def model(self) -> nn.Module:
        with user_code(self.file):
            model = self.user.model()
        if not isinstance(model, nn.Module):
            raise TaskFailed(f"model() gave {_kind(model)}, not a torch.nn.Module")
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        with user_code(self.file):
            optimizer = self.user.optimizer(model)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TaskFailed(f"optimizer() gave {_kind(optimizer)}, not a torch.optim.Optimizer")
        return optimizer

    def rates(self, optimizer: torch.optim.Optimizer) -> Rates:
        """The learning-rate schedule: a torch scheduler, or a function of the step that gives the
        factor of the learning rate. Without `schedule` the rate stays."""
        if not callable(getattr(self.user, "schedule", None)):
            return Rates()
        with user_code(self.file):
            made = self.user.schedule(optimizer)
            if callable(made) and not isinstance(made, LRScheduler):
                made = LambdaLR(optimizer, made)
        if not isinstance(made, LRScheduler):
            raise TaskFailed(
                f"schedule() gave {_kind(made)}, not a scheduler of torch.optim.lr_scheduler or a "
                "function of the step"
            )
        return Rates(made, self.file)

    def dataset(self, split: str) -> Any:
        """The map-style dataset of "train" or "test", never empty."""
        with user_code(self.file):
            dataset = self.user.dataset(split)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TaskFailed(f'dataset("{split}") gave {_kind(dataset)}, not a map-style dataset')
        if len(dataset) == 0:
            raise TaskFailed(f'dataset("{split}") is empty')
        return dataset

    def fetch(self, dataset: Any, indices: Indices | Sequence[int]) -> Any:
        """These samples as one batch.

        A TensorDataset is indexed at once; `__getitems__` (as PyTorch's loader uses it) gives the
        list of samples in one call; else one by one. Lists go through the task's `collate`, or
        PyTorch's default.
        """
        with user_code(self.file):
            if type(dataset) is TensorDataset:
                at = torch.from_numpy(np.asarray(indices, np.int64))
                return tuple(tensor[at] for tensor in dataset.tensors)
            wanted = [int(i) for i in indices]
            if hasattr(dataset, "__getitems__"):
                return self._collate(dataset.__getitems__(wanted))
            return self._collate([dataset[i] for i in wanted])

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The mean loss over the batch, and what else the task measures of it, by name."""
        with user_code(self.file):
            with self._casting(model):
                given = self.user.loss(model, batch)
            loss, metrics = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
            if not isinstance(metrics, dict):
                raise TaskFailed(f"loss() gave a loss and {_kind(metrics)}, not a dict of metrics")
            numbers = {str(name): _number(value) for name, value in metrics.items()}
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else None
            raise TaskFailed(f"loss() gave {shape or _kind(loss)}, not one number: return the mean")
        return (loss if loss.dtype.itemsize >= 4 else loss.float()), numbers

    def evaluate(self, model: nn.Module, batch: Any, samples: int) -> dict[str, float]:
        """Sums over the batch's samples, by metric name."""
        with user_code(self.file):
            with self._casting(model):
                values = self.user.evaluate(model, batch)
            if not isinstance(values, dict):
                raise TaskFailed(f"evaluate() gave {_kind(values)}, not a dict of metrics")
            sums = {}
            for name, each in values.items():
                column = torch.as_tensor(each).detach().to(torch.float64).reshape(-1)
                if len(column) != samples:
                    raise TaskFailed(
                        f"evaluate() gave {len(column)} values of {name!r} for {samples} samples: "
                        "return one value per sample"
                    )
                sums[str(name)] = float(column.sum())
        return sums

    def aggregate(self, contributions: Tensor, weights: Tensor) -> Tensor:
        """float32[values]: the user's average of float32[trainers, values] by float64[trainers]."""
        count = contributions.shape[1]
        with user_code(self.file):
            average = self.user.aggregate(contributions, weights)
        place = self.place_of("aggregate")
        if not isinstance(average, Tensor) or average.shape != (count,):
            shape = f"shape {tuple(average.shape)}" if isinstance(average, Tensor) else None
            raise TaskFailed(f"aggregate() gave {shape or _kind(average)}, not [{count}]{place}")
        average = average.detach().to(torch.float32)
        if not bool(torch.isfinite(average).all()):
            raise TaskFailed(f"aggregate() gave NaN or Inf for finite contributions{place}")
        return average

    def _casting(self, model: nn.Module) -> AbstractContextManager[Any]:
        """With bf16, matrix products and convolutions round to it; the weights stay float32."""
        if not self._is_bf16:
            return nullcontext()
        return torch.autocast(next(model.parameters()).device.type, torch.bfloat16)

    def _precision(self) -> str:
        precision = getattr(self.user, "precision", None) or "float32"
        if precision not in ("float32", "bf16"):
            raise TaskFailed(f"the task's precision is {precision!r}: there is float32 and bf16")
        return str(precision)

    def _setting(self, name: str, default: Any, kind: Any) -> Any:
        """A number above 0 that the task may have."""
        value = getattr(self.user, name, None)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < math.inf:
            what = "whole number from 1 up" if kind is int else "number above 0"
            raise TaskFailed(f"the task's {name} is {value!r}: it must be a {what}")
        return value

    def place_of(self, method: str) -> str:
        """Where the user defines it, to be put behind a sentence: " (task.py:12)"."""
        code = getattr(getattr(type(self.user), method, None), "__code__", None)
        return f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""


def load(spec: JobSpec, source_dir: str) -> type:
    """The task's class. Raises TaskFailed or Usage with one sentence."""
    if spec.task_source is None:
        if spec.task not in TASKS:
            raise Usage(f"no task {spec.task!r}: it is not built in and came without its file")
        builtin = TASKS[spec.task]
        with user_code(None):
            module = importlib.import_module(builtin.module)
        return _class_of(module, builtin.class_name)
    path = place_source(spec, source_dir)
    if spec.task_files:
        sys.path.insert(0, str(path.parent))
    with user_code(str(path)):
        module_spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[MODULE_NAME] = module
        module_spec.loader.exec_module(module)
    return _class_of(module, spec.task_class)


def place_source(spec: JobSpec, source_dir: str) -> Path:
    """Write the task's file and those that go with it into a folder named by their hash, with
    nothing else in it. Raises Usage if they were altered."""
    assert spec.task_source is not None
    files = spec.task_files or {}
    sha = task_files.digest(spec.task_source, files)
    if spec.task_sha is not None and spec.task_sha.removeprefix("sha256:") != sha:
        raise Usage(f"the file of {spec.task} was altered on the way: submit it again")
    folder, own = Path(source_dir) / sha[:16], file_name(spec.task)
    for name, data in {**files, own: spec.task_source}.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(data)
            temporary.replace(path)
    return folder / own


def create(cls: type, spec: JobSpec) -> Task:
    """Make the user's object. Flags stand above the class's own numbers, before __init__ runs."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    missing = [call for name, call in NEEDED.items() if not callable(getattr(cls, name, None))]
    if missing:
        raise TaskFailed(f"class {cls.__name__} has no {' and no '.join(missing)}")
    options = Options(spec, {name: getattr(cls, name, None) for name in _numbers()})
    with user_code(file):
        user: Any = object.__new__(cls)
        for name in _numbers():
            if getattr(options, name) is not None:
                setattr(user, name, getattr(options, name))
        user.options = options
        if not hasattr(cls, "add_metric"):
            user.add_metric = options.figures.add_metric
        if cls.__init__ is not object.__init__:  # type: ignore[misc]
            user.__init__(options)
    return Task(user, file, options)


def _numbers() -> tuple[str, ...]:
    return "global_batch", "epochs", "lr"


def _class_of(module: ModuleType, name: str) -> type:
    cls = getattr(module, name, None)
    if isinstance(cls, type):
        return cls
    there = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    file = Path(module.__file__ or "the file").name
    hint = f"it has {', '.join(there)}" if there else "it has none"
    raise TaskFailed(f"{file} has no class {name}: {hint}")


def _number(value: Any) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
