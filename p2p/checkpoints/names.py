"""What the files of a checkpoint are called, and which trainer writes which. Pure.

The state is cut into as many parts as there are trainers: whole tensors in a fixed order,
about the same bytes in each. A majority of the trainers writes each part, so that whoever can agree
on going on has all of it between them, whichever machines are lost. The final checkpoint is one
file, for people to take away; a majority of the trainers writes that, too.

What belongs to a trainer's shards alone (p2p.training.strategies.feedback) is a file of its own
beside the parts, with a number behind theirs: nobody else could write it, and training can go on
without it.
"""

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

_NAME = re.compile(r"step-(\d+)(?:\.(?:part|shards)-\d+-of-\d+)?\.safetensors")
TEMPORARY = ".new-"  # begins the name of a file that is still being written


def name_of(step: int, number: int, count: int) -> str:
    """Of part `number`, from 0; from `count` on, of what belongs to the shards of one trainer."""
    part = f".part-{number + 1}-of-{count}" if count > 1 else ""
    if number >= count:
        part = f".shards-{number - count + 1}-of-{count}"
    return f"step-{step:08d}{part}.safetensors"


def step_of(name: str) -> int | None:
    """The step of a file of that name; None if it is no part of a checkpoint."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def majority(trainers: int) -> int:
    return trainers // 2 + 1


def written_by(rank: int, trainers: int, whole: bool = False) -> list[int]:
    """The numbers of the parts that this trainer writes, its own first."""
    if whole:
        return [0] if rank < majority(trainers) else []
    return [(rank + i) % trainers for i in range(majority(trainers))]


def cut_evenly(sizes: Sequence[int], count: int) -> list[tuple[int, int]]:
    """`count` ranges [first, last) of the tensors with these bytes, in order, some perhaps empty:
    each tensor goes where its middle lies if all bytes were dealt evenly."""
    total = max(1, sum(sizes))
    middles = [end - size / 2 for end, size in zip(accumulate(sizes), sizes, strict=True)]
    owners = [min(count - 1, int(middle * count / total)) for middle in middles]
    bounds = [sum(owner < number for owner in owners) for number in range(count + 1)]
    return list(pairwise(bounds))
