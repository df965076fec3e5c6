"""The memory of a codec with error feedback belongs to shards, and moves with them.

What a codec left out of a shard's gradient is added to the shard's next one, by whoever computes
it. A shard's memory is handed over when its old holder lives, and starts at zero when it died;
training goes on either way, only a little was left out. In a checkpoint there is that of all
shards, by name, so that any number of trainers goes on from it with the same bits.
"""

from collections.abc import Mapping

import msgpack
import numpy as np
import torch
from torch import Tensor

from collectives.codecs import Codec
from collectives.operations import Group
from p2p.training.state import Unfit
from p2p.training.strategies.strategy import Shards

MEMORY = "memory."  # a shard's number follows


def named_memory(codec: Codec) -> dict[str, Tensor]:
    """What the codec remembers of this trainer's shards, live."""
    return {f"{MEMORY}{n:05d}": torch.from_numpy(v) for n, v in sorted(codec.memory().items())}


def restore_memory(codec: Codec, tensors: Mapping[str, Tensor]) -> None:
    """Have the memory of these shards only. Raises Unfit and changes nothing when they are not of
    this job's vector."""
    found = {}
    for name, tensor in tensors.items():
        number = name.removeprefix(MEMORY)
        known = number.isdecimal() and int(number) < codec.vector.shards
        if not known or tensor.dtype != torch.float32 or tensor.shape != (codec.remembers,):
            raise Unfit(f"{name} is no memory of codec {codec.name}")
        found[int(number)] = tensor.numpy().copy()
    codec.adopt(found)


def hand_over(codec: Codec, group: Group, shards: Shards) -> None:
    """Give every rank the memory of its shards [lo, hi). All stand at the same step.

    Nobody lets go of a memory before all have theirs: raises Aborted, and then every shard's memory
    is still with somebody, perhaps with two, who have the same.
    """
    memory = codec.memory()
    held = [msgpack.unpackb(told) for told in group.all_gather(msgpack.packb(sorted(memory)))]
    if not any(held):
        return
    kept = {}
    for owner, (lo, hi) in enumerate(shards):
        for shard in range(lo, hi):
            holders = [rank for rank, theirs in enumerate(held) if shard in theirs]
            if not holders:
                continue
            holder = owner if owner in holders else holders[0]
            if group.rank == holder == owner:
                kept[shard] = memory[shard]
            elif group.rank == holder:
                group.send(owner, memory[shard].tobytes())
            elif group.rank == owner:
                kept[shard] = np.frombuffer(group.receive(holder), np.float32).copy()
    codec.adopt({**memory, **kept})
    group.all_gather(b"")  # all have theirs
    codec.adopt(kept)
