"""Which sample is used when: a function of (seed, epoch, step) only, never of who is there.

Every epoch is one permutation of the train samples, cut into global batches; the last batch may be
short. A global batch is cut into V shards as equal as whole numbers allow.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

# What a random stream is for; part of its seed, so that no two uses ever share one.
PERMUTATION, SHARD, EVALUATION, AGGREGATION, UPDATE = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Schedule:
    """The lengths of a job. Steps count from 0; epochs too, inside; people see them from 1."""

    seed: int
    train_samples: int
    global_batch: int
    shards: int
    steps_total: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.train_samples // self.global_batch)

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch

    def ends_epoch(self, applied: int) -> bool:
        """After `applied` steps, is an epoch or the job complete?"""
        whole = applied % self.steps_per_epoch == 0
        return applied > 0 and (whole or applied == self.steps_total)


def seed_of(seed: int, purpose: int, *numbers: int) -> int:
    """A 63-bit seed for one random stream, the same on every machine and numpy version."""
    words = np.random.SeedSequence([seed & (2**64 - 1), purpose, *numbers]).generate_state(2)
    return (int(words[0]) << 32 | int(words[1])) & (2**63 - 1)


def permutation(schedule: Schedule, epoch: int) -> Indices:
    """The order of one epoch, int64[train_samples].

    RandomState, not Generator: its streams are frozen across numpy versions (NEP 19), and peers may
    differ in theirs.
    """
    words = np.random.SeedSequence([schedule.seed & (2**64 - 1), PERMUTATION, epoch])
    random = np.random.RandomState(words.generate_state(8))
    return random.permutation(schedule.train_samples).astype(np.int64)


def batch(schedule: Schedule, order: Indices, step: int) -> Indices:
    """The samples of one step, cut from its epoch's order."""
    first = step % schedule.steps_per_epoch * schedule.global_batch
    return order[first : first + schedule.global_batch]


def cut(count: int, shards: int) -> list[tuple[int, int]]:
    """`count` things in `shards` contiguous slices [lo, hi) that differ by one at most."""
    return [(count * i // shards, count * (i + 1) // shards) for i in range(shards)]


def shards_of(batches: Sequence[Indices], shards: int) -> list[Indices]:
    """The samples that each shard has of these global batches, one batch after the other."""
    parts = [[batch[lo:hi] for lo, hi in cut(len(batch), shards)] for batch in batches]
    return [one[0] if len(one) == 1 else np.concatenate(one) for one in zip(*parts, strict=True)]


def shard_of(batches: Sequence[Indices], shard: int, shards: int) -> Indices:
    """The same of one shard."""
    slices = [batch[slice(*cut(len(batch), shards)[shard])] for batch in batches]
    return slices[0] if len(slices) == 1 else np.concatenate(slices)


def fingerprint(indices: Indices) -> int:
    """CRC-32 of sample numbers: what was used, in one number that a float64 carries exactly."""
    return zlib.crc32(indices.astype("<i8", copy=False).tobytes())
