"""Where everything a step exchanges lies in two flat vectors.

values, float32[n]: every trainable parameter's gradient, then (from a new block on) the change of
every float buffer that the forward pass changes, such as BatchNorm's running mean, then zeros up to
a whole block. Changes are averaged over the batch's samples like gradients, so buffers get the same
bits everywhere.

agreed, float64[m]: what a MAX over all trainers settles, -inf where a trainer has no say: per shard
its loss, sample count, fingerprint and metrics, per parameter whether any shard used it, changes of
integer buffers (the same in every shard), a not-finite flag and a Wish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntFlag

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from collectives.blockscale import BLOCK, block_count
from collectives.codecs import Vector
from p2p.training.blame import TaskFailed
from p2p.training.order import Indices, fingerprint, shards_of

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


class Wish(IntFlag):
    """What rank 0 wants all to do after a round; the others say nothing."""

    NOTHING = 0
    MARK = 1
    CHECKPOINT = 2
    LEAVE = 4  # for a newer generation that has come in order


@dataclass(frozen=True)
class Buffers:
    """The buffers that a forward pass in training mode changes, and those it leaves alone."""

    floats: list[Tensor] = field(default_factory=list)
    integers: list[Tensor] = field(default_factory=list)
    quiet: list[tuple[str, Tensor, int]] = field(default_factory=list)  # name, buffer, version

    def check_quiet(self) -> None:
        """Raises TaskFailed when one is written to after all: trainers would drift apart."""
        for name, buffer, version in self.quiet:
            if buffer._version != version:
                raise TaskFailed(
                    f"the forward pass changed buffer {name}, which it did not do at first: "
                    "change it in every forward pass or never"
                )


class BufferWatch:
    """Made before the first forward pass; says after it what that pass did to the buffers."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {
            name: (buffer, buffer._version, buffer.clone())
            for name, buffer in model.named_buffers()
        }

    def undo(self) -> Buffers:
        """Put the buffers back. Raises TaskFailed for changes that cannot be kept equal."""
        found = Buffers()
        kept = self._model.state_dict(keep_vars=True)
        for name, buffer in sorted(self._model.named_buffers()):
            old, version, copy = self._before.get(name, (None, 0, buffer))
            if old is not buffer:
                raise TaskFailed(f"the forward pass replaces buffer {name}: change it in place")
            # Some kernels (batch_norm) write without counting a version, so compare contents too.
            if buffer._version == version and torch.equal(buffer, copy):
                found.quiet.append((name, buffer, version))
            elif kept.get(name) is not buffer:
                raise TaskFailed(
                    f"the forward pass changes buffer {name}, which is not in the state_dict and "
                    "so could not reach a new peer: register it with persistent=True"
                )
            else:
                buffer.copy_(copy)
                (found.floats if buffer.is_floating_point() else found.integers).append(buffer)
        return found


class Layout:
    """Slices of both vectors for one model and V shards."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        buffers: Buffers,
        shards: int,
        metric_names: Sequence[str] = (),
    ) -> None:
        gradients = sum(p.numel() for p in parameters)
        changes = sum(b.numel() for b in buffers.floats)
        integers = sum(b.numel() for b in buffers.integers)
        self.gradients = slice(0, gradients)
        first_change = block_count(gradients) * BLOCK if changes else gradients
        self.changes = slice(first_change, first_change + changes)
        self.values = block_count(self.changes.stop) * BLOCK  # padded with zeros
        self.shards = shards
        self._shapes = tuple(tuple(p.shape) for p in parameters)
        self.metric_names = tuple(metric_names)
        measured = len(self.metric_names) * shards
        ends = np.cumsum([shards, shards, shards, measured, len(parameters), integers]).tolist()
        starts = [0, *ends]
        parts = [slice(a, b) for a, b in zip(starts, ends, strict=False)]
        self.losses, self.counts, self.prints, self.metrics, self.used, self.integers = parts
        self.not_finite, self.mark, self.agreed = ends[-1], ends[-1] + 1, ends[-1] + 2

    def vector(self, seed: int, more: int = 0) -> Vector:
        """`values` and `more` behind them as codecs see them: only what has the parameters' shape
        may be rounded coarsely."""
        exact_from = block_count(self.gradients.stop) * BLOCK
        length = self.values + block_count(more) * BLOCK
        return Vector(
            *(length, self.shards, seed & (2**63 - 1), self._shapes),
            exact_from if exact_from < length else None,
        )

    def nothing_said(self) -> Float64s:
        """float64[agreed]: no say in anything, no flag raised."""
        agreed = np.full(self.agreed, -np.inf)
        agreed[self.not_finite :] = 0.0
        return agreed


class Agreed:
    """What all trainers settled on one round: `numbers`, laid out by `layout`."""

    def __init__(self, layout: Layout, numbers: Float64s) -> None:
        self.layout, self.numbers = layout, numbers

    @property
    def finite(self) -> bool:
        """False = some shard had NaN or Inf: the round's update is skipped, by everybody."""
        return not self.numbers[self.layout.not_finite] > 0

    @property
    def mark(self) -> bool:
        return Wish.MARK in self._wish

    @property
    def checkpoint(self) -> bool:
        return Wish.CHECKPOINT in self._wish

    @property
    def leave(self) -> bool:
        return Wish.LEAVE in self._wish

    @property
    def _wish(self) -> Wish:
        return Wish(int(self.numbers[self.layout.mark]))

    @property
    def loss(self) -> float:
        """The mean over the round's samples."""
        counts = self.numbers[self.layout.counts]
        return float((self.numbers[self.layout.losses] * counts).sum() / counts.sum())

    @property
    def metrics(self) -> dict[str, float]:
        """Their means over the round's samples, where all shards told a finite number."""
        layout = self.layout
        if not layout.metric_names:
            return {}
        counts = self.numbers[layout.counts]
        told = self.numbers[layout.metrics].reshape(-1, layout.shards)
        with np.errstate(invalid="ignore"):
            rows = [row[counts > 0] * counts[counts > 0] for row in told]
            means = [float(row.sum() / counts.sum()) for row in rows]
        named = zip(layout.metric_names, means, strict=True)
        return {name: mean for name, mean in named if math.isfinite(mean)}

    def skip(self) -> None:
        """It turned out, on all trainers alike, that not all values are finite."""
        self.numbers[self.layout.not_finite] = 1.0

    def check_samples(self, step: int, batches: Sequence[Indices]) -> None:
        """Raises RuntimeError unless the shards were computed from these global batches."""
        slices = shards_of(batches, self.layout.shards)
        counts, prints = [len(s) for s in slices], [fingerprint(s) for s in slices]
        if (
            self.numbers[self.layout.counts].tolist() != counts
            or self.numbers[self.layout.prints].tolist() != prints
        ):
            raise RuntimeError(
                f"step {step} was computed from other samples than agreed: "
                "do all peers have the same data and version?"
            )


def views(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """`flat` seen as tensors of these shapes, one after the other."""
    sizes = [tensor.numel() for tensor in tensors]
    parts = torch.split(flat[: sum(sizes)], sizes)
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
