"""Back to a checkpoint, when no trainer is left that made a step: all trainers together.

Each says which parts lie on its disk. Of the newest checkpoint of which every part is somewhere,
each reads what it has, checks it, and gives it to those without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from collectives.operations import Group
from p2p.errors import P2PError
from p2p.training import checkpoint
from p2p.training.checkpoint import Damaged
from p2p.training.run import Run

Told = Sequence[Any]  # step, number of parts, hash of the state, the numbers of the parts one has


class Unusable(P2PError):
    """Some part of the checkpoint of `step` is with no rank as it was written. `bad` = the numbers
    of the parts that this rank should have and has not."""

    def __init__(self, step: int, sentence: str, bad: list[int]) -> None:
        super().__init__(sentence)
        self.step, self.bad = step, bad


@dataclass(frozen=True)
class Offer:
    """What of a checkpoint lies on this trainer's disk: by number, where and with which digest."""

    step: int
    count: int
    state_hash: str
    parts: Mapping[int, tuple[str, str]]

    @staticmethod
    def parse(wire: Mapping[str, Any]) -> "Offer":
        parts = {
            int(part["number"]): (str(part["path"]), str(part["digest"])) for part in wire["parts"]
        }
        return Offer(int(wire["step"]), int(wire["count"]), str(wire["state_hash"]), parts)

    def to_tell(self) -> Told:
        return [self.step, self.count, self.state_hash, sorted(self.parts)]


def newest_complete(told: Sequence[Sequence[Told]], above: int) -> tuple[int, int, str] | None:
    """Of what all ranks tell: the newest checkpoint after step `above` of which they have all."""
    numbers: dict[tuple[int, int, str], set[int]] = {}
    for offers in told:
        for step, count, state_hash, have in offers:
            numbers.setdefault((step, count, state_hash), set()).update(have)
    whole = [key for key, have in numbers.items() if key[0] > above and have >= set(range(key[1]))]
    return max(whole, default=None)


def go_back(group: Group, run: Run, offers: Sequence[Offer], to: tuple[int, int, str]) -> None:
    """Everybody becomes the state of that checkpoint. Raises Unusable on all ranks, or Aborted."""
    step, count, state_hash = to
    own = next((each for each in offers if (each.step, each.count, each.state_hash) == to), None)
    parts, errors = _read(own)
    told = [
        msgpack.unpackb(data) for data in group.all_gather(msgpack.packb([sorted(parts), errors]))
    ]
    sound = [set(numbers) for numbers, _ in told]
    if any(number not in set().union(*sound) for number in range(count)):
        wrong = "; ".join(error for _, said in told for error in said)
        bad = sorted(own.parts.keys() - parts.keys()) if own else []
        raise Unusable(step, f"the checkpoint of step {step} cannot be used: {wrong}", bad)
    for number in sorted(set().union(*sound)):
        donor = next(rank for rank, have in enumerate(sound) if number in have)
        for taker in (rank for rank, have in enumerate(sound) if number not in have):
            if group.rank == donor:
                group.send(taker, parts[number])
            elif group.rank == taker:
                parts[number] = memoryview(bytes(group.receive(donor)))
    tensors: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    try:
        for number in sorted(parts):
            more, metadata = checkpoint.unpack(bytes(parts.pop(number)))
            tensors |= more
        run.become(tensors, metadata, state_hash)
    except Damaged as error:  # the same bytes everywhere, so the same error
        raise Unusable(
            step, f"the checkpoint of step {step} cannot be used: {error}", []
        ) from error


def _read(own: Offer | None) -> tuple[dict[int, memoryview], list[str]]:
    """The parts that are as they were written, and what is wrong with the others."""
    found, errors = {}, []
    for number, (path, digest) in own.parts.items() if own else ():
        try:
            data = memoryview(Path(path).read_bytes())
        except OSError as error:
            errors.append(f"cannot read {path}: {error.strerror}")
            continue
        if digest and checkpoint.digest_of(data) != digest:
            errors.append(f"{path} is not what was written: it was damaged or changed")
            continue
        found[number] = data
    return found, errors
