"""parameter-server with staleness > 0: nobody waits for the others, up to a bound.

Windows of steps (parameter_server_window.py) between consistent points, where all have the same
state: marks, checkpoints, the ends of epochs. Unlike in the synchronous mode sums are float32, a
partition's update follows as soon as its sum is complete, and the bits depend on timing. A window
that is aborted is not undone: the next generation goes on from the newest version of every
parameter, and computes what these lack (p2p.training.spread).

There is one thread: what arrives is served between two shards. A lease is asked for before and
after a window, not within: a window is short, and no update in it comes about without all members.
"""

import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from collectives.errors import OutOfStep
from collectives.operations import Group
from p2p.training.layout import Float32s, Wish
from p2p.training.order import Indices, cut, fingerprint, shard_of
from p2p.training.strategies.parameter_server import ParameterServer
from p2p.training.strategies.parameter_server_map import Partition
from p2p.training.strategies.parameter_server_parts import Parts, split
from p2p.training.strategies.parameter_server_window import (
    Action,
    Add,
    Adopt,
    Apply,
    Kind,
    Message,
    Send,
    Unexpected,
    Window,
)
from p2p.training.strategies.strategy import Check, Context, Notice, Result, Shards
from p2p.training.words import Words

TAG = 0x70730000  # of the messages of a window
HEADER = struct.Struct("<BBHIQII")  # kind, finite, 0, partition, step, first, last: 24 bytes
WINDOW_S = 0.5  # about as long as a window should take: marks are made between windows
WINDOW_STEPS_MAX = 1024


def parameter_server(context: Context) -> ParameterServer:
    """The strategy as its option `staleness` has it; 0 = synchronous."""
    return (Asynchronous if context.options["staleness"] else ParameterServer)(context)


class Asynchronous(ParameterServer):
    """A result's `values` are all parameters and buffers after the window; its own words: was any
    step finite, the largest and the mean staleness, the steps of the next window."""

    asynchronous = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        layout = self.gradients.layout
        self._buffers = Words(list(context.state.model.buffers()))
        self._make_results(self._words.length + self._buffers.length, words=4)
        self.staleness = int(context.options["staleness"])
        self._shards: Shards = ()
        self._parts = self._new_parts([])
        self._own = np.zeros(0, np.float32)  # this trainer's gradient of one step
        self._length = 1
        self._open: tuple[int, int] | None = None  # the window in hand: first step, steps
        self._check: Check = lambda: None
        self._mine = (0, 0)
        self._seen = (0.0, 0.0)
        self._saying = layout.nothing_said()
        self._losses: dict[int, tuple[float, int]] = {}  # by shard: sum, samples

    def enter(self, group: Group, shards: Shards) -> None:
        super().enter(group, shards)
        self._shards, self._open = shards, None
        self._length = self.staleness + 1
        self._seen = (0.0, 0.0)

    def span(self, step: int) -> int:
        if self._open is not None and self._open[0] == step:
            return self._open[1]
        schedule = self.context.schedule
        left = schedule.steps_per_epoch - step % schedule.steps_per_epoch
        begun = max(self.context.state.versions or [step]) - step
        return min(max(self._length, begun), left, schedule.steps_total - step)

    def compute(
        self, step: int, batches: list[Indices], mine: tuple[int, int], check: Check
    ) -> None:
        """Nothing yet: shards are computed while others' messages come."""
        self._batches, self._mine, self._check = batches, mine, check

    def exchange(self, group: Group, step: int, wish: Wish) -> Result:
        """Unlike elsewhere an abort leaves parameters changed: `state.versions` says how."""
        state, span = self.context.state, self.span(step)
        self._open = (step, span)
        result = self.room(step)
        versions = state.versions or [step] * len(self._slices)
        self._parts = self._new_parts(split(self.partitions, versions))
        at = [versions[part.parameters[0]] for part in self._parts.partitions]
        args = (self._parts.partitions, at, self._shards, self.staleness, step + span)
        window = Window(group.rank, *args)
        self._parts.any_finite = window.done  # nothing is left of it to be skipped
        self._said_of(step)
        state.keep_only(frozenset(self._kept))
        state.versions, self.pending = versions, step
        began = time.monotonic()
        while not window.done:
            self._serve(group, window)
            if window.may_compute:
                self._compute_step(group, window, step)
            elif not window.done:
                group.wait()
        self._conclude(window, wish, (time.monotonic() - began) / span)
        group.all_reduce(self._saying, result.agreed.numbers, "max")
        result.agreed.check_samples(step, self._batches)
        own = self.gradients.layout.agreed
        any_finite, most, mean, self._length = result.agreed.numbers[own:].tolist()
        self._length, self._seen = int(self._length), (most, mean)
        if not any_finite:
            result.agreed.skip()
        result.values[: self._words.length] = self._words.gathered(range(len(versions)))
        every = range(len(self._buffers.places))
        result.values[self._words.length :] = self._buffers.gathered(every)
        return result

    def apply(self, result: Result) -> None:
        state = self.context.state
        if state.versions and min(state.versions) < result.step + result.span:
            end = self._words.length  # this window was aborted here, but not elsewhere
            self._words.spread(range(len(self._slices)), result.values[:end])
            self._buffers.spread(range(len(self._buffers.places)), result.values[end:])
        state.versions, self.pending, self._open = None, None, None
        if result.agreed.finite:
            state.rates.advance(result.span)
        self._results.retain(result)

    def forget(self) -> None:
        super().forget()
        self._open = None

    def notices(self) -> list[Notice]:
        most, mean = self._seen
        return [
            Notice(
                f"parameters were up to {most:.0f} steps old when they were used, {mean:.1f} on "
                f"average (at most {self.staleness} allowed)"
            )
        ]

    def _new_parts(self, partitions: Sequence[Partition]) -> Parts:
        return Parts(partitions, self.gradients, self.context.state, self._slices)

    # One window.

    def _said_of(self, step: int) -> None:
        """What this trainer will have to say on the window, but for losses."""
        layout = self.gradients.layout
        said = self._saying = np.concatenate([layout.nothing_said(), np.zeros(4)])
        for shard in range(*self._mine):
            indices = shard_of(self._batches, shard, layout.shards)
            said[layout.counts.start + shard] = len(indices)
            said[layout.prints.start + shard] = fingerprint(indices)
            said[layout.losses.start + shard] = 0.0
        self._losses = dict.fromkeys(range(*self._mine), (0.0, 0))

    def _conclude(self, window: Window, wish: Wish, step_s: float) -> None:
        layout, said = self.gradients.layout, self._saying
        for shard, (total, samples) in self._losses.items():
            said[layout.losses.start + shard] = total / samples if samples else 0.0
        said[layout.mark] = float(wish)
        said[layout.agreed] = float(self._parts.any_finite)
        counts = np.array(window.stalenesses, np.float64)
        steps = np.arange(len(counts))
        said[layout.agreed + 1] = steps[counts > 0].max(initial=0)
        said[layout.agreed + 2] = (counts * steps).sum() / max(1.0, counts.sum())
        if window.rank == 0:
            wanted = round(WINDOW_S / max(step_s, 1e-6))
            said[layout.agreed + 3] = min(max(1, wanted), WINDOW_STEPS_MAX)

    def _serve(self, group: Group, window: Window) -> None:
        """Deal with all that has arrived."""
        while (source := group.probe(TAG)) is not None:
            data = group.receive(source, tag=TAG)
            try:
                kind, finite, _, part, step, first, last = HEADER.unpack_from(data)
                message = Message(Kind(kind), part, step, first, last, bool(finite))
                actions = window.receive(source, message)
            except (struct.error, ValueError, Unexpected) as error:
                raise OutOfStep(f"rank {source} sends what it should not: {error}") from error
            load = np.frombuffer(data, np.float32, offset=HEADER.size)
            self._carry_out(group, window, actions, load)

    def _compute_step(self, group: Group, window: Window, first_step: int) -> None:
        gradients, layout = self.gradients, self.gradients.layout
        step = window.begin()
        batch = self._batches[step - first_step]
        total = np.zeros(layout.values, np.float32)
        used = np.zeros(len(self._slices), np.float32)
        integers = np.full(layout.integers.stop - layout.integers.start, -np.inf, np.float32)
        finite = True
        slices = cut(len(batch), layout.shards)
        for shard in range(*self._mine):
            if slices[shard][0] == slices[shard][1]:
                continue
            gradients.compute(step, batch, (shard, shard + 1), self._check)
            finite = finite and not gradients.said[layout.not_finite] > 0
            total += gradients.rows[0]
            used = np.maximum(used, gradients.said[layout.used] > 0)
            np.maximum(integers, gradients.said[layout.integers], out=integers)
            sums, samples = self._losses[shard]
            count = slices[shard][1] - slices[shard][0]
            loss = float(gradients.said[layout.losses.start + shard])
            self._losses[shard] = (sums + loss * count, samples + count)
            self._serve(group, window)
        finite = finite and bool(np.isfinite(total).all())
        self._own = np.concatenate([total, used, integers.astype(np.float32)])
        self._carry_out(group, window, window.computed(finite), None)

    def _carry_out(
        self, group: Group, window: Window, actions: Sequence[Action], load: Float32s | None
    ) -> None:
        """`load` = what came with the message; None = these are this trainer's own gradients."""
        parts = self._parts
        for action in actions:
            match action:
                case Add(number, step):
                    added = parts.contribution(number, self._own) if load is None else load
                    parts.add(number, step, added)
                case Apply(number, step, finite):
                    backup = parts.partitions[number].backup == group.rank
                    parts.update(number, step, load if backup else None, finite)
                case Adopt(number):
                    assert load is not None
                    parts.adopt(number, load, window.versions[number])
                case Send(to, message):
                    self._send(group, to, message)

    def _send(self, group: Group, to: int, message: Message) -> None:
        part = message.partition
        load: Any = b""
        if message.kind is Kind.PUBLISH:
            load = self._parts.published(part).tobytes()
        elif message.kind is Kind.PUSH and message.finite:
            load = self._parts.contribution(part, self._own).tobytes()
        elif message.kind is Kind.REPLICA and message.finite:
            load = self._parts.sum(part, message.step).tobytes()
        fields = (message.kind, message.finite, 0, part, message.step, message.first, message.last)
        group.send(to, HEADER.pack(*fields) + load, tag=TAG)
