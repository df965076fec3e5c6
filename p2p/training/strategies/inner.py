"""What a shard changes while it trains by itself: parameters, buffers and the optimizer's state.

They are copied before, put back after, and the optimizer's moments can be had as one flat vector.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2p.training.blame import TaskFailed, user_code
from p2p.training.gradients import Gradients
from p2p.training.layout import Float64s, views


class Inner:
    """A copy of everything that local steps change; `put_back` makes it so again."""

    def __init__(self, gradients: Gradients) -> None:
        self._optimizer, self._rates = gradients.state.optimizer, gradients.state.rates
        self._rate = self._rates.pack()
        self._buffers = gradients.buffers
        self._parameters: list[Tensor] = [p.detach() for p in gradients.parameters]
        self._live = [*self._parameters, *self._buffers.floats, *self._buffers.integers]
        self._copies = [tensor.clone() for tensor in self._live]
        self._state = {p: _cloned(moments) for p, moments in self._optimizer.state.items()}
        self.groups = [_settings(group) for group in self._optimizer.param_groups]

    def differences(self, descent: Tensor, changes: Tensor) -> Float64s:
        """What has changed since: of the parameters downwards into `descent`, of the float buffers
        into `changes`, one after the other; of the integer buffers as new numbers."""
        old = iter(self._copies)
        for new, place in zip(self._parameters, views(descent, self._parameters), strict=True):
            _subtract(next(old), new, place)
        floats, integers = self._buffers.floats, self._buffers.integers
        for new, place in zip(floats, views(changes, floats), strict=True):
            _subtract(new, next(old), place)
        found = [(new - next(old)).reshape(-1).double().cpu().numpy() for new in integers]
        return np.concatenate(found) if found else np.zeros(0)

    def put_back(self) -> None:
        with torch.no_grad():
            for tensor, copy in zip(self._live, self._copies, strict=True):
                tensor.copy_(copy)
        self._optimizer.state.clear()
        for parameter, moments in self._state.items():
            self._optimizer.state[parameter] = _cloned(moments)
        for group, settings in zip(self._optimizer.param_groups, self.groups, strict=True):
            group.update(settings)
        self._rates.restore(self._rates.unpack(self._rate))


@dataclass(frozen=True)
class Slot:
    """One entry of the optimizer's state: of parameter `number`, under `key`."""

    number: int
    key: str
    example: Any


class Moments:
    """Which state the optimizer keeps, found by one step with gradients of zero, undone at once.

    `tensors` are averaged; `counters` (numbers, also as tensors of no dimension) are settled by
    their maximum; the rest (None, flags) is what the first step makes it. Raises TaskFailed when
    the optimizer keeps state elsewhere.
    """

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        self.tensors: list[Slot] = []
        self.counters: list[Slot] = []
        self.constants: list[Slot] = []
        optimizer, before = gradients.state.optimizer, Inner(gradients)
        optimizer.state.clear()
        try:
            for parameter in gradients.parameters:
                parameter.grad = torch.zeros_like(parameter)
            with user_code(gradients.task.file):
                optimizer.step()
            for number, parameter in enumerate(gradients.parameters):
                parameter.grad = None
                for key, value in sorted(optimizer.state.get(parameter, {}).items()):
                    self._place(Slot(number, key, value))
            settings = [_settings(group) for group in optimizer.param_groups]
            if repr(settings) != repr(before.groups):
                kind = type(optimizer).__name__
                raise TaskFailed(
                    f"the optimizer {kind} counts in its param_groups, which cannot be averaged: "
                    "use another one, or inner_state=reset"
                )
        finally:
            before.put_back()
        self._shapes: list[Tensor] = [slot.example for slot in self.tensors]
        ends = np.cumsum([0, *(tensor.numel() for tensor in self._shapes)]).tolist()
        self.places = [slice(a, b) for a, b in itertools.pairwise(ends)]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many tensors, counters, and values in all tensors."""
        length = self.places[-1].stop if self.places else 0
        return len(self.tensors), len(self.counters), length

    def _place(self, slot: Slot) -> None:
        if isinstance(slot.example, Tensor) and slot.example.dim():
            self.tensors.append(slot)
        elif isinstance(slot.example, Tensor) or type(slot.example) in (int, float):
            self.counters.append(slot)
        else:
            self.constants.append(slot)

    def read(self, out: Tensor) -> tuple[list[float], list[float]]:
        """The optimizer's moments now, into out[length]; what is not there is 0.

        For every tensor 1 if it has a negative value, else 0; and the counters.
        """
        state, parameters = self._gradients.state.optimizer.state, self._gradients.parameters
        for slot, place in zip(self.tensors, views(out, self._shapes), strict=True):
            value = state.get(parameters[slot.number], {}).get(slot.key)
            if value is None:
                place.zero_()
            else:
                place.copy_(value)
        signs = [float((out[place] < 0).any()) for place in self.places]
        return signs, [
            float(state.get(parameters[slot.number], {}).get(slot.key, 0)) for slot in self.counters
        ]

    def write(self, values: Tensor, counters: list[float], used: list[bool]) -> None:
        """Make these the optimizer's state, where the parameter was used."""
        state, parameters = self._gradients.state.optimizer.state, self._gradients.parameters
        for slot, value in zip(self.tensors, views(values, self._shapes), strict=True):
            if used[slot.number]:
                state[parameters[slot.number]][slot.key] = value.to(slot.example, copy=True)
        for slot, count in zip(self.counters, counters, strict=True):
            if used[slot.number]:
                state[parameters[slot.number]][slot.key] = (
                    torch.full_like(slot.example, count)
                    if isinstance(slot.example, Tensor)
                    else type(slot.example)(count)
                )
        for slot in self.constants:
            if used[slot.number]:
                state[parameters[slot.number]][slot.key] = slot.example


def _subtract(one: Tensor, other: Tensor, out: Tensor) -> None:
    """`out` is in the host's memory, wherever the others are."""
    if one.device == out.device:
        torch.sub(one.float(), other.float(), out=out)
    else:
        out.copy_(one.float() - other.float())


def _cloned(moments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in moments.items()}


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
