"""One job on one trainer: the task, its model, and how far it has come."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from collectives.operations import Group
from p2p.training import checkpoint, task
from p2p.training.blame import TaskFailed
from p2p.training.checkpoint import Damaged
from p2p.training.device import CPU
from p2p.training.evaluation import Evaluation
from p2p.training.gradients import Gradients, seed_everything
from p2p.training.ledger import Ledger
from p2p.training.method import Method, submitted
from p2p.training.order import Indices, Schedule, batch, permutation
from p2p.training.position import Position
from p2p.training.spec import JobSpec
from p2p.training.spread import complete
from p2p.training.state import PREFIX as OPTIMIZER_PREFIX
from p2p.training.state import TrainingState, Unfit, state_hash
from p2p.training.strategies import catalog
from p2p.training.strategies.feedback import MEMORY
from p2p.training.strategies.strategy import Context, Notice, Result, Strategy
from p2p.training.tuner import Tuner

SKIPPED_IN_A_ROW_MAX = 100
STRATEGY_PREFIX = "strategy."  # of the names of its tensors, beside the model's and optimizer's
OWN_PREFIX = STRATEGY_PREFIX + MEMORY  # of those that only one trainer has


class Run:
    """Starts in the job's initial state, which is the same for every trainer (step 0)."""

    def __init__(self, spec: JobSpec, user_task: task.Task, device: torch.device = CPU) -> None:
        self.spec, self.task = spec, user_task
        self._threads(spec.threads)
        seed_everything(spec.seed)
        self.model = user_task.model().to(device)  # before the optimizer, which keeps parameters
        optimizer = user_task.optimizer(self.model)
        self.train = user_task.dataset("train")
        self.schedule = self._schedule()
        self.state = TrainingState(self.model, optimizer, user_task.rates(optimizer))
        self._trainable = {self.state.names[p] for p in self.state.trainable}
        self.position = Position(Ledger(len(self.train)))
        self._order: tuple[int, Indices] = (-1, np.zeros(0, np.int64))
        self._hash: tuple[int, str] = (-1, "")
        self.method: Method | None = None
        self.tuner = Tuner()
        # A strategy's tensors from a checkpoint, until its revision is ordered.
        self._carried: tuple[int, dict[str, Tensor]] = (-1, {})
        self.odd_ranks: list[int] = []  # of this generation: who computes other bits than most
        self._point: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self.before_change: Callable[[], None] = lambda: None  # the state is still being read

    def warm_up(self) -> None:
        """Compute one shard and one small evaluation, so that errors and slow firsts come now."""
        self.gradients = Gradients(self.task, self.state, self.schedule, self.train)
        if not self.spec.allow_nondeterminism:
            self.gradients.check_repeatable()
        self.use(None)
        self.evaluation = Evaluation(self.task, self.model, self.schedule)
        self.tensors()

    def use(self, method: Method | None) -> None:
        """Exchange by this method from now on (None = as the job was submitted).

        The same one goes on; another begins afresh, and has no result for those one round behind:
        they get the whole state.
        """
        spec = self.spec
        method = method or submitted(spec.strategy, spec.codec, spec.options)
        if method == self.method:
            return
        entry = catalog.find(method.strategy)
        self.strategy: Strategy = entry.load()(
            Context(
                *(self.task, self.state, self.schedule, self.train, self.gradients),
                *(method.codec, entry.parse(method.options)),
            )
        )
        self.method, self._hash = method, (-1, "")
        revision, tensors = self._carried
        if revision == method.revision:
            self.strategy.restore(tensors)
        self._carried = (-1, {})

    def notices(self) -> list[Notice]:
        """What people should know now; the same on all trainers."""
        text = (
            "it computes other bits from the same samples than most: the weights depend on who "
            "computes which shard (another processor, other data, another version of torch?)"
        )
        one_voice = self.method is None or catalog.find(self.method.strategy).one_voice
        odd = [] if one_voice else self.odd_ranks  # else it names them itself
        return [*self.strategy.notices(), *(Notice(text, rank) for rank in odd)]

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def done(self) -> bool:
        return self.position.step >= self.schedule.steps_total

    def samples_of(self, step: int) -> Indices:
        """The global batch of this step, by sample number."""
        epoch = self.schedule.epoch_of(step)
        if self._order[0] != epoch:
            self._order = epoch, permutation(self.schedule, epoch)
        return batch(self.schedule, self._order[1], step)

    def batches(self) -> list[Indices]:
        """The global batches of the round that comes next."""
        step = self.position.step
        return [self.samples_of(step + i) for i in range(self.strategy.span(step))]

    def apply(self, result: Result) -> None:
        """Become the state after this round. Raises TaskFailed when the loss stays NaN or Inf."""
        position = self.position
        assert result.step == position.step
        self.before_change()
        if result.agreed.finite:
            position.loss = result.agreed.loss
            position.train_metrics = result.agreed.metrics
            position.skipped = 0
        else:
            position.skipped += 1
            if position.skipped >= SKIPPED_IN_A_ROW_MAX:
                raise TaskFailed(
                    f"the loss or its gradient was NaN or Inf for {position.skipped} steps in a "
                    f"row, up to step {position.step + 1}: try a smaller --lr"
                )
        self.strategy.apply(result)
        for _ in range(result.span):
            used = self.samples_of(position.step)
            position.ledger.record(self.schedule.epoch_of(position.step), used)
            position.step += 1
        if self.done and position.loss is None:
            raise TaskFailed("the loss or its gradient was NaN or Inf in every step")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that make up the state: the model's, the optimizer's, the strategy's."""
        own = self.strategy.tensors().items()
        return {**self.state.tensors(), **{STRATEGY_PREFIX + name: t for name, t in own}}

    def own(self) -> dict[str, Tensor]:
        """Live tensors that belong to this trainer's shards alone: part of the state, in no hash.
        A checkpoint has that of all trainers beside `tensors`, which all have alike."""
        return {STRATEGY_PREFIX + name: t for name, t in self.strategy.own().items()}

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of `tensors` that share no memory, with each other neither."""
        return {
            name: t.clone(memory_format=torch.contiguous_format).cpu()
            for name, t in self.tensors().items()
        }

    def hash(self) -> str:
        """Of the state after the last applied step; computed once per step."""
        if self.state.versions is not None:
            return state_hash(self.tensors())
        if self._hash[0] != self.position.step:
            self._hash = self.position.step, state_hash(self.tensors())
        return self._hash[1]

    def metadata(self) -> dict[str, Any]:
        """What goes beside the tensors, as JSON values, without the hash."""
        return {
            "job": self.spec.id,
            "task": self.spec.task,
            "step": self.position.step,
            "position": self.position.to_wire(),
            "ledger": self.position.ledger.lines(),
            "optimizer": self.state.scalars(),
            "versions": self.state.versions,
            "schedule": asdict(self.schedule),
            "revision": self.method.revision if self.method else 0,
        }

    def pack(self) -> bytes:
        """The whole state, to give to another trainer."""
        return checkpoint.pack(self.snapshot(), self.metadata())

    def settle(self, group: Group) -> None:
        """All trainers together: have the whole state, where each had a part of it."""
        if self.strategy.spreads:
            complete(group, self.state)
        self.remember()

    def remember(self) -> None:
        """Keep the state, if it is whole and soon is not: all go back to it when a part of it is
        lost with all that had it."""
        if not self.strategy.spreads:
            self._point = None
        elif (
            self.state.kept is None
            and self.state.versions is None
            and self.point != self.position.step
        ):
            self._point = self.snapshot(), self.metadata()

    @property
    def point(self) -> int | None:
        """The step of the newest whole state that this trainer could go back to."""
        return int(self._point[1]["step"]) if self._point is not None else None

    def whole(self) -> tuple[dict[str, Tensor], dict[str, Any], str | None]:
        """The newest whole state's tensors, live or not, what goes beside them, and their hash if
        it is known."""
        if self.state.kept is not None:
            assert self._point is not None
            return *self._point, None
        step, digest = self._hash
        known = step == self.position.step and self.state.versions is None
        return self.tensors(), self.metadata(), digest if known else None

    def is_steady(self, name: str) -> bool:
        """Whether the state's tensor of that name changes in `apply` only, whatever the task and
        the exchange do: trainable parameters and their moments."""
        return name.startswith(OPTIMIZER_PREFIX) or name in self._trainable

    def pack_point(self) -> bytes:
        """The state at `point`, to give to another trainer."""
        assert self._point is not None
        tensors, metadata = self._point
        return checkpoint.pack(tensors, {**metadata, "state_hash": state_hash(tensors)})

    def restore(self, data: bytes, expected_hash: str | None = None) -> None:
        """Become the state in `data`. Raises Damaged when it is not of this job or not that hash
        (that of its own metadata when none is given). What `own` gave may be among it, of any
        shards."""
        tensors, metadata = checkpoint.unpack(data)
        self.become(tensors, metadata, expected_hash or metadata.get("state_hash"))

    def become(
        self, tensors: dict[str, Tensor], metadata: dict[str, Any], expected: str | None
    ) -> None:
        """Become this state. Raises Damaged when it is not of this job or not that hash."""
        if state_hash(common(tensors)) != expected:
            raise Damaged(f"its state is not {expected}")
        ours = {k: v for k, v in asdict(self.schedule).items() if k != "steps_total"}
        theirs = {k: v for k, v in metadata.get("schedule", {}).items() if k != "steps_total"}
        if ours != theirs:
            raise Damaged(f"it was trained with {theirs}, this job has {ours}")
        try:
            position = Position.from_wire(len(self.train), metadata["position"])
            self.before_change()
            own = {n: t for n, t in tensors.items() if n.startswith(STRATEGY_PREFIX)}
            rest = {n: t for n, t in tensors.items() if n not in own}
            self.state.restore(rest, metadata["optimizer"])
            self.strategy.forget()
            self._restore_strategy(
                int(metadata.get("revision", 0)),
                {n.removeprefix(STRATEGY_PREFIX): t for n, t in own.items()},
            )
        except (Unfit, KeyError, ValueError, TypeError) as error:
            raise Damaged(f"it does not fit this job: {error}") from error
        self.position = position
        self.state.versions = metadata.get("versions")
        self._hash = (-1, "")

    def _restore_strategy(self, revision: int, tensors: dict[str, Tensor]) -> None:
        """Now, or when it is ordered: a resuming trainer does not know yet by which it goes on."""
        if self.method and self.method.revision == revision:
            self.strategy.restore(tensors)
        else:
            self._carried = revision, tensors

    def _schedule(self) -> Schedule:
        options = self.task.options
        samples = len(self.train)
        size = options.global_batch
        if not isinstance(size, int) or size < 1:
            raise TaskFailed("the task has no global_batch: set one in the class or by flag")
        per_epoch = -(-samples // size)
        epochs = options.epochs
        total = self.spec.steps or (epochs * per_epoch if isinstance(epochs, int) else 0)
        if total < 1:
            raise TaskFailed("the task has no epochs: set them in the class, or --epochs, --steps")
        options.steps_total = total
        return Schedule(self.spec.seed, samples, size, self.spec.shards, total)

    def _threads(self, threads: int) -> None:
        # Bits depend on how many threads share a sum, so the number belongs to the job.
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def common(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that all trainers have alike, which is what a state's hash is of."""
    return {name: t for name, t in tensors.items() if not name.startswith(OWN_PREFIX)}
