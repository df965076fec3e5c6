"""Whether trainers that should have the same bits do, and which parameter differs first if not.

A task may break the promise of the same bits: by random numbers from elsewhere, by state of its own
between calls, by an order that depends on memory addresses. A trainer computes its first shard
twice to find that out; all compare their states at the start and at every mark. If the user allows
it (`--allow-nondeterminism`), everybody takes the state that most have instead of giving up.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgpack
from torch import Tensor

from collectives.operations import Group
from p2p.training.blame import REMEDY, TaskFailed
from p2p.training.run import Run
from p2p.training.state import raw

Hash = TypeVar("Hash", str, bytes)


def check_start(group: Group, run: Run) -> None:
    """All trainers are at step 0. Raises TaskFailed where their first states differ."""
    name = level_or_name(group, run)
    if name is not None:
        raise TaskFailed(
            f"the task is not deterministic: {name} begins with other values on another trainer; "
            + REMEDY
        )


def level_or_name(group: Group, run: Run) -> str | None:
    """None when all trainers, at the same step, have the same bits; or, where the user allows that
    they differ, once they have. Else the first tensor that differs. Raises Aborted.
    """
    if group.size == 1:
        return None
    hashes = [bytes(told).decode() for told in group.all_gather(run.hash().encode())]
    agreed = majority(hashes)
    if all(told == agreed for told in hashes):
        return None
    donor = hashes.index(agreed)
    if not run.spec.allow_nondeterminism:
        return _first_difference(group, run, donor)
    if group.rank == donor:
        data = run.pack()
        for rank in range(group.size):
            if hashes[rank] != agreed:
                group.send(rank, data)
    elif hashes[group.rank] != agreed:
        run.restore(bytes(group.receive(donor)), agreed)
    return None


def majority(hashes: Sequence[Hash]) -> Hash:
    """The most frequent one; of equally frequent ones that of the lowest rank."""
    return max(hashes, key=lambda one: (hashes.count(one), -hashes.index(one)))


def digests(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """A short hash of each tensor's bytes, by name."""
    return {name: hashlib.sha256(raw(tensor)).digest()[:8] for name, tensor in tensors.items()}


def _first_difference(group: Group, run: Run, donor: int) -> str:
    """Parameters come first, in the model's own order, then everything else by name."""
    own = msgpack.packb(digests(run.tensors()))
    told = [msgpack.unpackb(bytes(data)) for data in group.all_gather(own)]
    names = {name for each in told for name in each}
    different = {n for n in names if any(each.get(n) != told[donor].get(n) for each in told)}
    parameters = [name for name in run.state.names.values() if name in different]
    return next(iter([*parameters, *sorted(different)]), "nothing by name")
