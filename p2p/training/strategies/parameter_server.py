"""parameter-server: every trainer serves some parameters, and keeps the backup of some others.

A step (parameters sharded over servers: Li et al., "Scaling Distributed Machine Learning with the
Parameter Server", 2014; every trainer a server of some: Rajbhandari et al., "ZeRO", 2020):

1. each parameter's gradient goes to its server and its backup only, as order-free integers;
2. the server computes its parameters' new values and sends them to everybody; this changes nothing
   yet, they and the new optimizer state are kept aside;
3. all take the new values; server and backup also have the new optimizer state.

Who has everybody's values has heard from every trainer after its first part, so by then all servers
and backups have what they need: a step that one trainer has applied, all others can apply, also
when a server dies then. The bits are those of `ring`: the sums are the same, and an optimizer that
updates each parameter by itself does the same wherever it runs (others are refused).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgpack
import numpy as np
import torch

from collectives.blockscale import block_count
from collectives.codecs import Codec, Vector, build
from collectives.codecs.codec import Scales
from collectives.operations import Group
from collectives.plane import host_identity
from p2p.training.blame import TaskFailed
from p2p.training.layout import Agreed, Float32s
from p2p.training.spread import complete
from p2p.training.strategies.averaging import Averaging
from p2p.training.strategies.parameter_server_map import Partition, place
from p2p.training.strategies.separable import check_separable
from p2p.training.strategies.strategy import Context, Result, Shards
from p2p.training.words import Words

Array = np.ndarray[Any, Any]
ALIVE = b"\0\0\0\0"  # first of what a server publishes: who serves nothing says at least this


class ParameterServer(Averaging):
    """A result's `values` are all parameters' new values, each from a new word of 4 bytes on, then
    the changes of the buffers."""

    spreads = True
    updates_only_in_apply = False

    def __init__(self, context: Context) -> None:
        layout, parameters = context.gradients.layout, context.gradients.parameters
        self._words = Words(parameters)
        changes = layout.changes.stop - layout.changes.start
        self._changes = slice(self._words.length, self._words.length + changes)
        super().__init__(context, self._changes.stop)
        check_separable(context.task)
        if context.task.clip_norm is not None:
            raise TaskFailed(
                "clip_norm needs the norm of the whole gradient, of which no parameter server has "
                "all: use --strategy ring"
            )
        whole = layout.vector(context.schedule.seed)
        end = whole.length if whole.exact_from is None else whole.exact_from
        self._codec = build(context.codec, replace(whole, length=end, exact_from=None))
        self._exact = build("int32", Vector(whole.length - end, whole.shards))  # for the rest
        starts = np.cumsum([0, *(p.numel() for p in parameters)]).tolist()
        self._slices = [slice(a, b) for a, b in pairwise(starts)]
        self._average = np.zeros(layout.values, np.float32)
        self.partitions: list[Partition] = []
        self._rank = -1
        self._served: tuple[int, ...] = ()
        self._kept: tuple[int, ...] = ()  # served, or backed up
        self._spans: list[list[slice]] = []
        # What is known of the step in hand: until it is applied or the state replaced.
        self.pending: int | None = None  # the step whose sums are in `_average`
        self._next: dict[int, dict[str, Any]] = {}  # optimizer state after it, by parameter

    def enter(self, group: Group, shards: Shards) -> None:
        """Deal the parameters to the members: who kept some goes on, backups are promoted."""
        rank = group.rank
        backed = [n for p in self.partitions if p.backup == self._rank for n in p.parameters]
        mine = msgpack.packb([host_identity(), list(self._served), backed])
        told = [msgpack.unpackb(data) for data in group.all_gather(mine)]
        sizes = [p.numel() for p in self.gradients.parameters]
        before = [
            [r for role in (1, 2) for r in range(group.size) if number in told[r][role]]
            for number in range(len(sizes))
        ]
        partitions = place(sizes, [host for host, *_ in told], before)
        needs = [_kept_by(partitions, r) for r in range(group.size)]
        complete(group, self.context.state, needs=needs)
        self.partitions, self._rank, self.pending = partitions, rank, None
        self._served = tuple(n for p in partitions if p.server == rank for n in p.parameters)
        self._kept = tuple(sorted(needs[rank]))
        self._spans = [_merged([self._slices[n] for n in sorted(own)]) for own in needs]

    def _scales(self) -> Scales:
        head, rows = self._codec.vector.length, self.gradients.rows
        return np.concatenate(
            [self._codec.scales(rows[:, :head]), self._exact.scales(rows[:, head:])]
        )

    def _reduce(self, group: Group, step: int, settled: Scales, out: Float32s) -> bool:
        self.pending, self._next = None, {}
        head, length = self._codec.vector.length, len(self._average)
        first, rest = np.split(settled, [len(settled) - block_count(length - head)])
        parts = Scattered(group, self._spans)
        if not self._sum(self._codec, parts, step, first, slice(0, head)):
            return False
        changes, tail = self.gradients.layout.changes, slice(head, length)
        none = changes.start == changes.stop
        if not (none or self._sum(self._exact, group, step, rest, tail)):
            return False
        self.pending = step
        self._advance(self._served, self.room(step).agreed, out)
        out[self._changes] = self._average[changes]
        self._publish(group, out)
        return True

    def _sum(
        self, codec: Codec, group: "Group | Scattered", step: int, settled: Scales, part: slice
    ) -> bool:
        rows, numbers = self.gradients.rows[:, part], self.gradients.numbers
        return codec.sum(group, rows, numbers, step, settled, self._average[part])

    def _publish(self, group: Group, values: Float32s) -> None:
        """Each server's new values to everybody."""
        size, rank = group.size, group.rank
        places = self._words.places
        payload = b"".join([ALIVE, *(values[places[n]].tobytes() for n in self._served)])
        for offset in range(1, size):
            group.send((rank + offset) % size, payload)
            source = (rank - offset) % size
            came = np.frombuffer(group.receive(source), np.float32)[1:]
            at = 0
            for number in (n for p in self.partitions if p.server == source for n in p.parameters):
                end = at + places[number].stop - places[number].start
                values[places[number]] = came[at:end]
                at = end

    def apply(self, result: Result) -> None:
        super().apply(result)
        self.pending, self._next = None, {}

    def _update(self, result: Result) -> None:
        assert self.pending == result.step
        lacking = [n for n in self._kept if n not in self._next]
        self._advance(lacking, result.agreed, None)
        self._commit(result)
        self.gradients.change_buffers(result.values[self._changes], result.agreed)

    def _commit(self, result: Result) -> None:
        state = self.context.state
        for number, words in enumerate(self._words.places):
            self._words.load(number, result.values[words])
        for number, moments in self._next.items():
            state.optimizer.state[self.gradients.parameters[number]] = moments
        state.keep_only(frozenset(self._kept))

    def _advance(self, numbers: Collection[int], agreed: Agreed, values: Float32s | None) -> None:
        """Compute these parameters after the step in hand, into `values`, and their optimizer
        state, into `_next`; nothing else changes."""
        optimizer, parameters = self.context.state.optimizer, self.gradients.parameters
        before = {}
        for number in numbers:
            parameter = parameters[number]
            moments = optimizer.state.get(parameter)
            before[number] = parameter.detach().clone(), None if moments is None else dict(moments)
            if moments is not None:  # the optimizer changes copies, what there was stays
                copies = {
                    k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in moments.items()
                }
                optimizer.state[parameter] = copies
        self.gradients.optimize(self._average, agreed, numbers)
        for number, (old, moments) in before.items():
            parameter = parameters[number]
            if values is not None:
                self._words.store(number, values[self._words.places[number]])
            new = optimizer.state.pop(parameter, None)
            if new is not None:
                self._next[number] = new
            if moments is not None:
                optimizer.state[parameter] = moments
            with torch.no_grad():
                parameter.copy_(old)

    def forget(self) -> None:
        super().forget()
        self.pending, self._next = None, {}


class Scattered:
    """A group as codecs see it, in which a sum of whole vectors reaches only those who need it."""

    def __init__(self, group: Group, spans: Sequence[Sequence[slice]]) -> None:
        """`spans` = which parts of a vector each rank needs."""
        self.rank, self.size = group.rank, group.size
        self._group, self._spans = group, spans

    def send(self, to: int, payload: memoryview | bytes) -> None:
        self._group.send(to, payload)

    def receive(self, source: int, out: memoryview | None = None) -> memoryview:
        return self._group.receive(source, out)

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None:
        """As of Group; but elements of a sum that this rank does not need are 0."""
        if op != "sum" or self.size == 1:  # who is alone needs all; and it may be in place
            self._group.all_reduce(source, out, op, number)
            return
        own = self._spans[self.rank]
        out.fill(0)
        for span in own:
            out[span] = source[span]
        for offset in range(1, self.size):
            to = (self.rank + offset) % self.size
            payload = np.concatenate([source[:0], *(source[span] for span in self._spans[to])])
            self._group.send(to, payload.view(np.uint8).data)
            came = self._group.receive((self.rank - offset) % self.size)
            parts = np.frombuffer(came, out.dtype)
            at = 0
            for span in own:
                end = at + span.stop - span.start
                out[span] += parts[at:end]
                at = end


def _kept_by(partitions: Sequence[Partition], rank: int) -> set[int]:
    return {n for p in partitions if rank in p.keepers for n in p.parameters}


def _merged(slices: Sequence[slice]) -> list[slice]:
    """The same elements in as few slices as possible; ascending."""
    found: list[slice] = []
    for one in slices:
        if found and found[-1].stop == one.start:
            found[-1] = slice(found[-1].start, one.stop)
        else:
            found.append(one)
    return found
