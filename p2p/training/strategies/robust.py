"""robust: trainers' gradients are averaged so that `faulty` of them cannot spoil the result.

Each trainer contributes the mean over the samples of its shards as one row of float32: gradients,
buffers' changes, and the loss. Every rank gets its segment of all rows, measures how far they are
apart in it (collectives.aggregate), hears how far they are apart in all, averages its segment by
the rule and gives it to the others: 2 (n-1)/n rows sent per rank, as by a ring. So all have the
same bits; but unlike with a ring they depend on who computed which shard.

What may be wrong is whatever a trainer computes: its row, its loss, which samples it used, NaN, Inf
and wrong sizes included. That it runs this program, also while it averages its segment, is taken
for granted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from collectives import aggregate
from collectives.errors import OutOfStep
from collectives.operations import Group
from p2p.training.blame import TaskFailed
from p2p.training.gradients import seed_everything
from p2p.training.layout import Agreed, Float32s, Float64s, Wish
from p2p.training.order import AGGREGATION, cut, fingerprint, seed_of, shard_of
from p2p.training.strategies.averaging import Averaging
from p2p.training.strategies.robust_guard import Guard, Suspicion, guard
from p2p.training.strategies.strategy import Context, Notice, Result, Shards


@dataclass(frozen=True)
class Crowd:
    """The trainers that have samples in this step, by ascending rank. `weights` = how many;
    `said` = their numbers (see layout.Agreed), None where these make no sense; `rows` = what they
    contribute: all of it, or this rank's segment. `wish` = that of rank 0."""

    ranks: list[int]
    weights: list[float]
    said: list[Float64s | None]
    rows: list[Float32s]
    wish: Wish

    def only(self, indices: Sequence[int]) -> "Crowd":
        return Crowd(
            [self.ranks[i] for i in indices],
            [self.weights[i] for i in indices],
            [self.said[i] for i in indices],
            [self.rows[i] for i in indices],
            self.wish,
        )


class Robust(Averaging):
    """Options: `rule` = median, trimmed, krum or task; `faulty` = how many it shall tolerate."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.rule, self.faulty = str(context.options["rule"]), int(context.options["faulty"])
        if self.rule == "task" and not context.task.can_aggregate:
            raise TaskFailed("rule=task needs aggregate(self, contributions, weights) in the task")
        self._length = self.gradients.layout.values + 1
        self._shards: Shards = ()
        self._reason: str | None = None
        self._suspicion = Suspicion(0)

    def enter(self, group: Group, shards: Shards) -> None:
        self._shards, self._suspicion = shards, Suspicion(len(shards))
        able = sum(lo < hi for lo, hi in shards)
        self._reason = guard(self.rule, self.faulty, able).reason

    def notices(self) -> list[Notice]:
        weaker = [Notice(f"robust: {self._reason}")] if self._reason else []
        text = "its gradients are far from all others', step after step"
        return weaker + [Notice(text, rank) for rank in self._suspicion.named]

    def exchange(self, group: Group, step: int, wish: Wish) -> Result:
        result = self.room(step)
        self.gradients.said[self.gradients.layout.mark] = float(wish)
        segment = slice(*cut(self._length, group.size)[group.rank])
        crowd = self._gather(group, segment)
        apart = self._apart(group, crowd, segment)
        sound = aggregate.finite(apart)
        limit = guard(self.rule, self.faulty, len(crowd.ranks))
        left = limit.faulty - (len(crowd.ranks) - len(sound))
        kept = crowd.only(sound)
        self._settle(result.agreed, kept)
        if left < 0 or not sound:  # more garbage than is tolerated
            result.agreed.skip()
            return result
        if self.rule == "task":
            row = self._by_task(group, step, kept, left)
        else:
            own = np.empty(segment.stop - segment.start, np.float32)
            _by_rule(Guard(limit.rule, left), kept, apart[np.ix_(sound, sound)], own)
            parts = [_array(part, np.float32) for part in _to_all(group, own)]
            row = np.concatenate(parts)
        if len(row) != self._length:
            raise OutOfStep(f"the trainers' segments make {len(row)} values, not {self._length}")
        result.values[:] = row[:-1]
        result.agreed.numbers[self.gradients.layout.losses] = row[-1]
        if not np.isfinite(row).all():
            result.agreed.skip()
        return result

    def _gather(self, group: Group, segment: slice) -> Crowd:
        """Everybody's statement and row; rows that make no sense are NaN, so garbage."""
        batch = len(self._batches[0])
        counts = [last - first for first, last in cut(batch, self.context.schedule.shards)]
        weights = [float(sum(counts[lo:hi])) for lo, hi in self._shards]
        row = self._contribution(weights[group.rank])
        if self.rule == "task":
            segment = slice(0, self._length)
            arrived = _to_all(group, row)
        else:
            ends = [slice(*each) for each in cut(self._length, group.size)]
            arrived = _swap(group, [row[each] for each in ends])
        told = _to_all(group, self.gradients.said)
        everybodys = [self._statement(rank, each) for rank, each in enumerate(told)]
        asked = 0.0 if everybodys[0] is None else float(everybodys[0][self.gradients.layout.mark])
        wish = Wish(int(asked)) if asked in range(8) else Wish.NOTHING
        ranks = [rank for rank, weight in enumerate(weights) if weight > 0]
        said = [everybodys[rank] for rank in ranks]
        rows = []
        for rank, statement in zip(ranks, said, strict=True):
            values = _array(arrived[rank], np.float32)
            wrong = statement is None or len(values) != segment.stop - segment.start
            rows.append(np.full(segment.stop - segment.start, np.nan, "f4") if wrong else values)
        return Crowd(ranks, [weights[rank] for rank in ranks], said, rows, wish)

    def _contribution(self, samples: float) -> Float32s:
        """float32[length]: the mean of this trainer's shards over their samples."""
        layout, said, gradients = self.gradients.layout, self.gradients.said, self.gradients
        row = np.zeros(self._length, np.float32)
        if samples:
            share = np.float32(
                samples / len(self._batches[0])
            )  # rows are weighted by the whole batch
            with np.errstate(over="ignore", invalid="ignore"):
                np.divide(gradients.rows.sum(axis=0), share, out=row[:-1])
            counts = said[layout.counts]
            own = counts > 0
            row[-1] = (said[layout.losses][own] * counts[own]).sum() / samples
        if said[layout.not_finite] > 0:
            row[-1] = np.nan
        return row

    def _statement(self, rank: int, told: memoryview) -> Float64s | None:
        """What this rank says, if it computed the samples it should have."""
        layout = self.gradients.layout
        said = _array(told, np.float64)
        if len(said) != layout.agreed:
            return None
        for shard in range(*self._shards[rank]):
            used = shard_of(self._batches, shard, layout.shards)
            if said[layout.counts][shard] != len(used):
                return None
            if said[layout.prints][shard] != fingerprint(used):
                return None
        return said

    def _apart(self, group: Group, crowd: Crowd, segment: slice) -> Float64s:
        """aggregate.separations of whole rows, the same bytes on all ranks; notes suspects."""
        count = len(crowd.ranks)
        mine = [row[segment] for row in crowd.rows] if self.rule == "task" else crowd.rows
        total = np.zeros((count, count))
        for part in _to_all(group, aggregate.separations(mine)):
            total += _array(part, np.float64).reshape(count, count)
        odd = aggregate.oddness(total, crowd.weights)
        self._suspicion.note([crowd.ranks[index] for index in aggregate.suspicious(odd)])
        return total

    def _settle(self, agreed: Agreed, kept: Crowd) -> None:
        """What is agreed besides the average: facts that all know, and what sound ones said."""
        layout, numbers = self.gradients.layout, agreed.numbers
        numbers[:] = layout.nothing_said()
        for shard in range(layout.shards):
            used = shard_of(self._batches, shard, layout.shards)
            numbers[layout.counts.start + shard] = len(used)
            numbers[layout.prints.start + shard] = fingerprint(used)
        numbers[layout.losses] = 0.0
        numbers[layout.mark] = float(kept.wish)
        sound = [said for said in kept.said if said is not None]
        if sound:
            numbers[layout.used] = np.max([said[layout.used] for said in sound], axis=0)
            integers = np.sort([said[layout.integers] for said in sound], axis=0)
            numbers[layout.integers] = integers[(len(sound) - 1) // 2]  # the lower median

    def _by_task(self, group: Group, step: int, kept: Crowd, left: int) -> Float32s:
        """The user's average of the gradients, computed by all and compared; of buffers' changes
        and the loss the trimmed mean."""
        gradients = self.gradients.layout.gradients
        row = np.empty(self._length, np.float32)
        aggregate.trimmed_mean(kept.rows, kept.weights, left, row)
        seed_everything(seed_of(self.context.schedule.seed, AGGREGATION, step))
        stacked = torch.from_numpy(np.stack([each[gradients] for each in kept.rows]))
        weights = torch.tensor(kept.weights, dtype=torch.float64)
        row[gradients] = self.context.task.aggregate(stacked, weights).numpy()
        digest = hashlib.sha256(row.tobytes()).digest()
        if any(bytes(other) != digest for other in _to_all(group, np.frombuffer(digest, "u1"))):
            raise TaskFailed(
                "aggregate() gave other bits on another trainer: it must depend on nothing but "
                f"contributions and weights{self.context.task.place_of('aggregate')}"
            )
        return row


def _by_rule(tolerated: Guard, kept: Crowd, apart: Float64s, out: Float32s) -> None:
    """out = the average of one segment of the sound rows."""
    rows, weights = kept.rows, kept.weights
    if not tolerated.faulty:  # nobody is left to be guarded against
        aggregate.mean(rows, weights, out)
    elif tolerated.rule == "median":
        aggregate.median(rows, out)
    elif tolerated.rule == "trimmed":
        aggregate.trimmed_mean(rows, weights, tolerated.faulty, out)
    else:
        chosen = kept.only(aggregate.krum(apart, tolerated.faulty))
        aggregate.mean(chosen.rows, chosen.weights, out)


def _to_all(group: Group, array: npt.NDArray[Any]) -> list[memoryview]:
    return _swap(group, [array] * group.size)


def _swap(group: Group, outgoing: Sequence[npt.NDArray[Any]]) -> list[memoryview]:
    """Give outgoing[r] to every rank r; what each gave to this one, of whatever size."""
    raw = [memoryview(np.ascontiguousarray(array).reshape(-1).view("u1")) for array in outgoing]  # type: ignore[arg-type]
    arrived = [raw[group.rank]] * group.size
    for shift in range(1, group.size):
        group.send((group.rank + shift) % group.size, raw[(group.rank + shift) % group.size])
        source = (group.rank - shift) % group.size
        arrived[source] = group.receive(source)
    return arrived


def _array(raw: memoryview, kind: Any) -> npt.NDArray[Any]:
    """The numbers in it; none if it holds no whole number of them."""
    return np.frombuffer(raw if len(raw) % np.dtype(kind).itemsize == 0 else b"", kind)
