"""The tensors a run consists of: parameters, buffers, optimizer moments. Hashed, copied, restored.

Names: a model's own state_dict names, "optimizer.<parameter>.<moment>", and "schedule.state".
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from p2p.training.blame import TaskFailed
from p2p.training.rates import NAME, Rates, packed

PREFIX = "optimizer."
Scalar = bool | int | float | str | None


class Unfit(Exception):
    """Tensors that are not of this model and optimizer."""


class TrainingState:
    """A model and its optimizer seen as named tensors.

    Raises TaskFailed when the optimizer has parameters the model does not name. Trainable
    parameters have numbers, in the order of `trainable`. `kept` = those whose optimizer state is
    here, None = all; `versions` = how many steps each has had, None = as many as the run (see
    p2p.training.spread).
    """

    kept: frozenset[int] | None = None
    versions: list[int] | None = None

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, rates: Rates | None = None
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.rates = rates or Rates()
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        self.trainable = [p for p in self.names if p.requires_grad]
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
        for parameter in self.optimizer.state:
            tensors, _ = self._moments(parameter)
            found |= {PREFIX + name: value for name, value in tensors.items()}
        found |= self.rates.tensors()
        return dict(sorted(found.items()))

    def snapshot(self) -> dict[str, Tensor]:
        """Copies that share no memory, with each other neither (tied weights stand twice)."""
        return {
            name: t.clone(memory_format=torch.contiguous_format).cpu()
            for name, t in self.tensors().items()
        }

    def scalars(self) -> dict[str, Any]:
        """The optimizer's hyper-parameters and counters, as JSON values."""
        groups = [
            {key: _plain(value) for key, value in group.items() if _is_plain(value)}
            for group in self.optimizer.param_groups
        ]
        counters: dict[str, Scalar] = {}
        for parameter in self.optimizer.state:
            counters |= self._moments(parameter)[1]
        return {"groups": groups, "counters": counters}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Become this state. Everything is checked first; raises Unfit and changes nothing."""
        own = self.model.state_dict()
        moments = {n: t for n, t in tensors.items() if n not in own and n != NAME}
        try:
            rates = self.rates.unpack(packed(tensors))
        except ValueError as error:
            raise Unfit(str(error)) from error
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
        self.kept = self.versions = None
        for name, (parameter, moment) in places.items():
            self._keep(parameter, moment, moments[name].clone())
        for (parameter, key), number in counters.items():
            self.optimizer.state[parameter][key] = number
        for group, saved in zip(self.optimizer.param_groups, groups, strict=True):
            for key, value in saved.items():
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
        self.rates.restore(rates)

    def moments(self, numbers: Iterable[int]) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
        """The optimizer state of these parameters, live: tensors and counters by
        "<parameter>.<moment>"."""
        tensors: dict[str, Tensor] = {}
        counters: dict[str, Scalar] = {}
        for number in numbers:
            more_tensors, more_counters = self._moments(self.trainable[number])
            tensors |= more_tensors
            counters |= more_counters
        return tensors, counters

    def adopt_moments(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Scalar]) -> None:
        """Take what `moments` of another trainer gave. Raises Unfit and changes nothing."""
        found = [
            (self._place(name), value) for name, value in (*tensors.items(), *counters.items())
        ]
        for (parameter, moment), value in found:
            self._keep(parameter, moment, value)

    def keep_only(self, numbers: frozenset[int]) -> None:
        """Let go of the optimizer state of all other parameters."""
        for number, parameter in enumerate(self.trainable):
            if number not in numbers:
                self.optimizer.state.pop(parameter, None)
        self.kept = numbers

    def _moments(self, parameter: Tensor) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
        tensors: dict[str, Tensor] = {}
        counters: dict[str, Scalar] = {}
        for moment, value in self.optimizer.state.get(parameter, {}).items():
            name = f"{self.names[parameter]}.{moment}"
            if isinstance(value, Tensor):
                tensors[name] = value.detach()
            elif isinstance(value, Scalar):
                counters[name] = value
            else:
                kind = type(self.optimizer).__name__
                raise TaskFailed(f"the optimizer {kind} keeps {moment} as a "
                                 f"{type(value).__name__}: only tensors and numbers can "
                                 "travel to other peers")  # fmt: skip
        return tensors, counters

    def _keep(self, parameter: Tensor, moment: str, value: Tensor | Scalar) -> None:
        """Where the optimizer looks for it: on the parameter's device, but that counters stay on
        the CPU unless its kernel counts itself (as Optimizer.load_state_dict has it)."""
        if isinstance(value, Tensor):
            group = next(
                group
                for group in self.optimizer.param_groups
                if any(each is parameter for each in group["params"])
            )
            counts = moment == "step" and not (group.get("fused") or group.get("capturable"))
            value = value.cpu() if counts else value.to(parameter.device)
        self.optimizer.state[parameter][moment] = value

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
        digest.update(raw(tensor))
    return f"sha256:{digest.hexdigest()}"


def raw(tensor: Tensor) -> memoryview:
    """The tensor's bytes, in the host's memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data: memoryview = flat.numpy().data
    return data


def _is_plain(value: Any) -> bool:
    return isinstance(value, Scalar) or (
        isinstance(value, list | tuple) and all(isinstance(v, Scalar) for v in value)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
