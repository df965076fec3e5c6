"""What every codec is: a way to sum the shards' vectors over all members of a group.

A codec belongs to one trainer of one job, over all generations. Once per step:

    scales = codec.scales(rows)              # the caller settles their MAX over all members, and
    finite = codec.sum(group, rows, numbers, step, settled, out)   # may raise Aborted, see there
    codec.keep(out)                                         # only when the step has been applied

or both in one, `reduce`. Apart, the MAX can share an exchange with other numbers that the members
have to settle (collectives.maxima), which saves a round trip per step.

`rows[i]` is what shard `numbers[i]` contributes, already weighted by its share of the batch's
samples, so that the sum over all shards is the average. Every member leaves with the same bits in
`out`, whatever the codec; with the order-free ones they do not even depend on who had which shard.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32s = NDArray[np.float32]
Scales = NDArray[np.int16]

NO_SCALES: Scales = np.zeros(0, np.int16)


class Group(Protocol):
    """What a codec needs of collectives.operations.Group. Every operation may raise Aborted."""

    rank: int
    size: int

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None: ...

    def send(self, to: int, payload: memoryview | bytes) -> None: ...

    def receive(self, source: int, out: memoryview | None = None) -> memoryview: ...


@dataclass(frozen=True)
class Vector:
    """The vector that V shards are summed in: float32[length], the same on every trainer.

    `shapes` are those of the parameters whose gradients lie in it one after the other from 0 on;
    none = of no particular shape. Values from `exact_from` on (None = there are none) must not be
    rounded coarsely or held back: a lossy codec sends them as int32.
    """

    length: int
    shards: int
    seed: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    exact_from: int | None = None

    def __post_init__(self) -> None:
        end = self.length if self.exact_from is None else self.exact_from
        if not 0 <= end <= self.length or sum(prod(s) for s in self.shapes) > end:
            raise ValueError(f"parts do not fit into {self}")


class Codec(ABC):
    """One trainer's side. Made by collectives.codecs.build from a name and an option.

    `order_free`: the result's bits do not depend on the number of trainers, on who has which
    shard, or on any order. `lossy`: it may leave out or coarsen what float32 would have kept.
    """

    name: str
    order_free: ClassVar[bool] = False
    lossy: ClassVar[bool] = False

    def __init__(self, vector: Vector, option: float) -> None:
        self.vector, self.option = vector, option

    def reduce(
        self, group: Group, rows: Float32s, numbers: Sequence[int], step: int, out: Float32s
    ) -> bool:
        """`sum`, with its scales settled first."""
        scales = self.scales(rows)
        settled = np.empty_like(scales)
        if scales.size:
            group.all_reduce(scales, settled, "max")
        return self.sum(group, rows, numbers, step, settled, out)

    def scales(self, rows: Float32s) -> Scales:
        """int16[k], k the same on all members: what `sum` needs the MAX of. `rows` stay."""
        return NO_SCALES

    @abstractmethod
    def sum(
        self,
        group: Group,
        rows: Float32s,
        numbers: Sequence[int],
        step: int,
        settled: Scales,
        out: Float32s,
    ) -> bool:
        """out[n] = the sum of all members' rows[h, n], h = len(numbers), possibly 0; `settled` =
        the MAX of all members' `scales` of the same rows.

        Every shard is in at most one member's `numbers`. The answer is the same on all members:
        False when some shard had a NaN or an infinity, or a sum is beyond float32; then `out` means
        nothing and nobody may apply the step. `rows` are scratch memory from now on, and must stay
        as the codec left them until `keep`. Raises Aborted; then nothing else has changed, and the
        step may be tried again.
        """

    def keep(self, average: Float32s) -> None:  # noqa: B027
        """The last reduce's step was applied with this result: error feedback moves on.

        Also right for a trainer whose own reduce was aborted and that got `average` from another.
        """

    def common(self) -> dict[str, Float32s]:
        """State that is the same on all members, by name: goes with the model, into its hash, to
        joiners and into checkpoints. Live, and of one shape for good: write into it to restore."""
        return {}

    @property
    def remembers(self) -> int:
        """How many values of error feedback a shard has."""
        return 0

    def memory(self) -> dict[int, Float32s]:
        """Error feedback by shard, as of the last `keep`: part of the training state. Live."""
        return {}

    def adopt(self, memory: dict[int, Float32s]) -> None:  # noqa: B027
        """Have the error feedback of these shards only; what is not in it starts at zero."""
