"""What goes with the messages of an asynchronous window: gradients, sums, parameters.

A partition's contribution or sum is float32[gradients | used or not, by parameter | changes of
float buffers | of integer ones]; what is published are its parameters' bytes, then the buffers'.
The first parameter's partition takes the buffers along.
"""

from collections.abc import Sequence

import numpy as np

from collectives.errors import OutOfStep
from p2p.training.gradients import Gradients
from p2p.training.layout import Agreed, Float32s
from p2p.training.state import TrainingState
from p2p.training.strategies.parameter_server_map import Partition
from p2p.training.words import Words


class Parts:
    """One window's partitions, by number. `slices` = where each parameter's gradient lies."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        gradients: Gradients,
        state: TrainingState,
        slices: Sequence[slice],
    ) -> None:
        self.partitions, self.gradients, self.state = list(partitions), gradients, state
        self.words, self.buffers = Words(gradients.parameters), Words(list(state.model.buffers()))
        self.any_finite = False  # has an update come about in this window?
        self._slices = list(slices)
        self._sums: dict[tuple[int, int], Float32s] = {}
        self._average = np.zeros(gradients.layout.values, np.float32)
        self._agreed = Agreed(gradients.layout, gradients.layout.nothing_said())

    def contribution(self, number: int, own: Float32s) -> Float32s:
        """Of this trainer's whole [values | used | integer changes] of one step."""
        parameters, layout = self.partitions[number].parameters, self.gradients.layout
        rest = own[layout.values :]
        parts = [own[self._slices[n]] for n in parameters]
        parts.append(rest[list(parameters)])
        if 0 in parameters:
            parts += [own[layout.changes], rest[len(self._slices) :]]
        return np.concatenate(parts)

    def add(self, number: int, step: int, load: Float32s) -> None:
        """Gradients and changes are summed; integer changes are the same in every shard. Raises
        OutOfStep for a contribution of another length."""
        total = self._sums.get((number, step))
        if total is None:
            self._sums[number, step] = load.copy()
            return
        if len(load) != len(total):
            raise OutOfStep(f"{len(load)} values came for partition {number}, not {len(total)}")
        integers = self.gradients.layout.integers
        end = len(total) - (integers.stop - integers.start) * (
            0 in self.partitions[number].parameters
        )
        total[:end] += load[:end]
        np.maximum(total[end:], load[end:], out=total[end:])

    def sum(self, number: int, step: int) -> Float32s:
        return self._sums[number, step]

    def update(self, number: int, step: int, replica: Float32s | None, finite: bool) -> None:
        """Apply the sum of this step: a server's own, or the one that its backup was given."""
        parameters, layout = self.partitions[number].parameters, self.gradients.layout
        own = self._sums.pop((number, step), None)
        self._note(number, step + 1)
        if not finite:
            return
        total = own if replica is None else replica
        assert total is not None
        self.any_finite = True
        numbers, at = self._agreed.numbers, 0
        for n in parameters:
            size = self._slices[n].stop - self._slices[n].start
            self._average[self._slices[n]] = total[at : at + size]
            at += size
        for n in parameters:
            numbers[layout.used.start + n] = total[at]
            at += 1
        self.gradients.optimize(self._average, self._agreed, parameters)
        if 0 in parameters:
            changes = total[at : at + layout.changes.stop - layout.changes.start]
            numbers[layout.integers] = total[at + len(changes) :]
            self.gradients.change_buffers(changes, self._agreed)

    def published(self, number: int) -> Float32s:
        parameters = self.partitions[number].parameters
        with_buffers = range(len(self.buffers.places)) if 0 in parameters else ()
        return np.concatenate(
            [self.words.gathered(parameters), self.buffers.gathered(with_buffers)]
        )

    def adopt(self, number: int, load: Float32s, version: int) -> None:
        """Raises OutOfStep for what is not as `published` gives it."""
        parameters = self.partitions[number].parameters
        with_buffers = range(len(self.buffers.places)) if 0 in parameters else ()
        split = sum(self.words.sizes[n] for n in parameters)
        try:
            self.words.spread(parameters, load[:split])
            self.buffers.spread(with_buffers, load[split:])
        except ValueError as error:
            raise OutOfStep(f"partition {number} came in another size: {error}") from error
        self._note(number, version)

    def _note(self, number: int, version: int) -> None:
        assert self.state.versions is not None
        for n in self.partitions[number].parameters:
            self.state.versions[n] = version


def split(partitions: Sequence[Partition], versions: Sequence[int]) -> list[Partition]:
    """All parameters of a partition have had the same steps: split those where not."""
    return [
        Partition(part.server, part.backup, numbers)
        for part in partitions
        for version in sorted({versions[n] for n in part.parameters})
        if (numbers := tuple(n for n in part.parameters if versions[n] == version))
    ]
