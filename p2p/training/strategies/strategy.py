"""What a strategy is: how the trainers of a generation get from one common state to the next.

A run calls it like this, round after round; a round covers `span` steps (global batches):

    strategy.enter(group, shards)                  # once per generation, all standing equal
    batches = [the samples of step, step + 1, …]   # strategy.span(step) of them
    strategy.compute(step, batches, mine, check)
    result = strategy.exchange(group, step, wish)  # the same bytes for everybody, or Aborted
    strategy.apply(result)                         # never half done

What one trainer applied and another did not (it was aborted between the two) is retained, for the
other to apply in the next generation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from collectives.operations import Group
from p2p.training.gradients import Gradients
from p2p.training.layout import Agreed, Float32s, Wish
from p2p.training.order import Indices, Schedule
from p2p.training.state import TrainingState
from p2p.training.strategies.catalog import Value
from p2p.training.task import Task

Check = Callable[[], None]
Shards = Sequence[tuple[int, int]]


@dataclass(eq=False)
class Result:
    """What one round's exchange gave, enough to apply it anywhere; the same bytes for everybody.

    `step` = the first step it covers, from 0. `values` mean nothing when it is not finite.
    """

    step: int
    span: int
    agreed: Agreed
    values: Float32s


@dataclass(frozen=True)
class Notice:
    """What people should know about how the exchange goes, as long as it holds; of the trainer of
    `rank`, or of all."""

    text: str
    rank: int | None = None


@dataclass(frozen=True)
class Context:
    """What a strategy works on. `gradients` computes shards and updates the model by an average."""

    task: Task
    state: TrainingState
    schedule: Schedule
    train: Any
    gradients: Gradients
    codec: str
    options: Mapping[str, Value]


class Strategy(Protocol):
    """Made with a Context. It changes nothing of the model or optimizer but in `apply`, `restore`
    and, if it is undone before it returns, in `compute`."""

    spreads: bool  # each trainer keeps the optimizer state of some parameters only
    asynchronous: bool  # parameters may have had later steps than the run, after an abort
    updates_only_in_apply: bool  # parameters and moments; not in `compute` or `exchange`
    pending: int | None  # with `spreads`: the step of which it could apply a result of another's
    retained: Result | None  # the last applied one, as long as the state is still the one after it

    def enter(self, group: Group, shards: Shards) -> None:
        """A generation begins; all stand at the same step with the same state. `shards` by rank.

        What belongs to shards or members (memory of errors, partitions) changes hands here. Raises
        Aborted; then `enter` of a later generation follows.
        """

    def span(self, step: int) -> int:
        """How many steps the round that begins at `step` covers; never past the end of an epoch."""

    def compute(
        self, step: int, batches: list[Indices], mine: tuple[int, int], check: Check
    ) -> None:
        """This trainer's shards [lo, hi) of the round. `check` may raise between two shards."""

    def exchange(self, group: Group, step: int, wish: Wish) -> Result:
        """Agree on the round's result. Raises Aborted; then nothing has changed."""

    def apply(self, result: Result) -> None:
        """Become the state after the round; unchanged when the result is not finite."""

    def room(self, step: int) -> Result:
        """Where a result that another trainer retained can be received into."""

    def forget(self) -> None:
        """The state was replaced: no result leads to it any more."""

    def notices(self) -> list[Notice]:
        """What people should know now; the same on all trainers."""

    def tensors(self) -> dict[str, Tensor]:
        """State beyond model and optimizer, equal on all trainers: hashed, checkpointed, given to
        joiners."""

    def own(self) -> dict[str, Tensor]:
        """State that belongs to this trainer's shards (what a codec has left out of them), live:
        in checkpoints, but in no hash. Names begin with "memory."; no two trainers have the same.
        """

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `tensors` gave, and what `own` gave of any shards. Raises Unfit and changes
        nothing."""


class Results:
    """Room for two results that take turns: the applied one is kept for those behind, so the next
    one gets other arrays."""

    def __init__(self, make: Callable[[], Result]) -> None:
        self._free = [make(), make()]
        self.retained: Result | None = None

    def room(self, step: int, span: int) -> Result:
        result = self._free[-1]
        result.step, result.span = step, span
        return result

    def retain(self, result: Result) -> None:
        assert result is self._free[-1]
        self._free.pop()
        self.forget()
        self.retained = result

    def forget(self) -> None:
        if self.retained is not None:
            self._free.append(self.retained)
        self.retained = None
