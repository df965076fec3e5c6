"""The tensors a run consists of: parameters, buffers, optimizer moments. Hashed, copied, restored.

Names: a model's own state_dict names, and "optimizer.<parameter>.<moment>".
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from p2p.training.blame import TaskFailed

PREFIX = "optimizer."
Scalar = bool | int | float | str | None


class Unfit(Exception):
    """Tensors that are not of this model and optimizer."""


class TrainingState:
    """A model and its optimizer seen as named tensors.

    Raises TaskFailed when the optimizer has parameters the model does not name.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        strange = [p for group in optimizer.param_groups for p in group["params"]]
        if any(p not in self.names for p in strange):
            raise TaskFailed("the optimizer has a parameter that the model does not: give it only "
                             "model.parameters()")  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """The live tensors, sorted by name. Raises TaskFailed for what is no tensor or number."""
        found: dict[str, Tensor] = {}
        for name, value in self.model.state_dict().items():
            if not isinstance(value, Tensor):
                raise TaskFailed(f"the model keeps {name}, which is no tensor, in its state_dict")
            found[name] = value.detach()
        for parameter, moments in self.optimizer.state.items():
            for moment, value in moments.items():
                name = f"{PREFIX}{self.names[parameter]}.{moment}"
                if isinstance(value, Tensor):
                    found[name] = value.detach()
                elif not isinstance(value, Scalar):
                    kind = type(self.optimizer).__name__
                    raise TaskFailed(f"the optimizer {kind} keeps {moment} as a "
                                     f"{type(value).__name__}: only tensors and numbers can "
                                     "travel to other peers")  # fmt: skip
        return dict(sorted(found.items()))

    def snapshot(self) -> dict[str, Tensor]:
        """Copies that share no memory, with each other neither (tied weights stand twice)."""
        return {
            name: t.clone(memory_format=torch.contiguous_format)
            for name, t in self.tensors().items()
        }

    def scalars(self) -> dict[str, Any]:
        """The optimizer's hyper-parameters and counters, as JSON values."""
        groups = [
            {key: _plain(value) for key, value in group.items() if _is_plain(value)}
            for group in self.optimizer.param_groups
        ]
        counters = {
            f"{self.names[parameter]}.{key}": value
            for parameter, moments in self.optimizer.state.items()
            for key, value in moments.items()
            if isinstance(value, Scalar)
        }
        return {"groups": groups, "counters": counters}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Become this state. Everything is checked first; raises Unfit and changes nothing."""
        own = self.model.state_dict()
        moments = {name: t for name, t in tensors.items() if name not in own}
        for name, value in own.items():
            other = tensors.get(name)
            if other is None or other.shape != value.shape or other.dtype != value.dtype:
                raise Unfit(f"{name} is missing or has another shape")
        places = {name: self._place(name.removeprefix(PREFIX)) for name in moments}
        counters = {self._place(n): value for n, value in scalars.get("counters", {}).items()}
        groups = scalars.get("groups", [])
        if len(groups) != len(self.optimizer.param_groups):
            raise Unfit("the optimizer has another number of parameter groups")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])
        self.optimizer.state.clear()
        for name, (parameter, moment) in places.items():
            self.optimizer.state[parameter][moment] = moments[name].clone()
        for (parameter, key), number in counters.items():
            self.optimizer.state[parameter][key] = number
        for group, saved in zip(self.optimizer.param_groups, groups, strict=True):
            for key, value in saved.items():
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value

    def _place(self, name: str) -> tuple[Tensor, str]:
        owner, _, moment = name.rpartition(".")
        for parameter, known in self.names.items():
            if known == owner:
                return parameter, moment
        raise Unfit(f"{name} belongs to no parameter of this model")


def state_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the raw bytes of all tensors in sorted name order."""
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _is_plain(value: Any) -> bool:
    return isinstance(value, Scalar) or (
        isinstance(value, list | tuple) and all(isinstance(v, Scalar) for v in value)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
