"""The memory of a codec with error feedback belongs to shards, and moves with them.

What a codec left out of a shard's gradient is added to the shard's next one, by whoever computes
it. A shard's memory is handed over when its old holder lives, and starts at zero when it died, or
when the job begins from a checkpoint; training goes on either way, only a little was left out.
"""

import msgpack
import numpy as np

from collectives.codecs import Codec
from collectives.operations import Group
from p2p.training.strategies.strategy import Shards


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
