"""Optimizer state that is spread over trainers: each keeps that of some parameters only.

`state.kept` says which; None = of all. Everything else (weights, buffers, position) everybody has.
Whoever needs the whole (a hash, a checkpoint, a joiner, a strategy that does not spread) calls
`complete` first, together with all others.

Where parameters are updated at their own pace (asynchronously), `state.versions` says how many
steps each has had; buffers have as many as the first parameter. After an abort `level` gives
everybody the newest of each.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
import torch
from torch import Tensor

from collectives.operations import Group
from p2p.errors import P2PError
from p2p.training import checkpoint
from p2p.training.checkpoint import Damaged
from p2p.training.state import PREFIX, TrainingState
from p2p.training.strategies.parameter_server_map import handovers, newest
from p2p.training.words import Words

GO_AHEAD = b""


class Diverged(P2PError):
    """This trainer's state differs from the others' at the same step."""


def is_lost(kept: Sequence[Collection[int] | None], parameters: int) -> bool:
    """Whether some parameter's optimizer state is with nobody; `kept` by trainer, None = all."""
    if any(theirs is None for theirs in kept):
        return False
    return len({number for theirs in kept for number in theirs or ()}) < parameters


def newest_versions(
    step: int, versions: Sequence[list[int] | None], kept: Sequence[Collection[int] | None]
) -> tuple[list[int], list[list[int]]]:
    """Per parameter the newest version that is kept, and which of these trainers keep it.

    `versions` (None = `step` of all) and `kept` by trainer. -1 where nobody keeps any.
    """
    length = max((len(v) for v in versions if v is not None), default=0)
    return newest(
        [v if v is not None else [step] * length for v in versions],
        [range(length) if own is None else own for own in kept],
    )


def level(
    group: Group,
    state: TrainingState,
    step: int,
    among: Sequence[int],
    versions: Sequence[list[int] | None],
    kept: Sequence[Collection[int] | None],
) -> None:
    """The ranks in `among` get the newest version of every parameter; the other arguments belong
    to them, in order, as of `newest_versions`. Only they call this. Raises Aborted.
    """
    tops, at = newest_versions(step, versions, kept)
    own = versions[list(among).index(group.rank)] or [step] * len(tops)
    behind = [
        [r for r, v in zip(among, versions, strict=True) if (v[n] if v else step) < top]
        for n, top in enumerate(tops)
    ]
    parameters, buffers = Words(state.trainable), Words(list(state.model.buffers()))
    everything = range(len(buffers.places))
    for move in handovers([[among[i] for i in keepers] for keepers in at], behind)[0]:
        with_buffers = everything if 0 in move.parameters else ()
        split = sum(parameters.sizes[n] for n in move.parameters)
        for taker in move.takers:
            if group.rank == taker:
                group.send(move.giver, GO_AHEAD)
                came = np.frombuffer(group.receive(move.giver), np.float32)
                parameters.spread(move.parameters, came[:split])
                buffers.spread(with_buffers, came[split:])
            elif group.rank == move.giver:
                group.receive(taker)
                gathered = [parameters.gathered(move.parameters), buffers.gathered(with_buffers)]
                group.send(taker, np.concatenate(gathered).tobytes())
    stale = {n for n, top in enumerate(tops) if own[n] < top}
    if stale:
        whole = range(len(tops)) if state.kept is None else state.kept
        state.keep_only(frozenset(whole) - stale)
    state.versions = None if all(top == step for top in tops) else tops


def complete(
    group: Group,
    state: TrainingState,
    among: Collection[int] | None = None,
    needs: Sequence[Collection[int]] | None = None,
) -> None:
    """Every rank gets the optimizer state that it needs: `needs` by rank, None = all of it.

    `among` = the ranks that stand at the newest step (None = all): others neither give nor take,
    but must call this, too. Nobody lets go of anything before the others have theirs, so an abort
    loses nothing. Raises Aborted, Diverged.
    """
    ranks = range(group.size)
    able = set(ranks if among is None else among)
    kept = _kept(group, state, able)
    if all(theirs is None for theirs in kept.values()):
        return
    numbers = range(len(state.trainable))
    keepers = [[r for r, own in kept.items() if own is None or n in own] for n in numbers]
    takers = [[r for r in able if needs is None or n in needs[r]] for n in numbers]
    for move in handovers(keepers, takers)[0]:
        for taker in move.takers:  # one after the other: nobody is sent more than it can keep
            if group.rank == taker:
                group.send(move.giver, GO_AHEAD)
                state.adopt_moments(*_unpacked(group.receive(move.giver)))
            elif group.rank == move.giver:
                group.receive(taker)
                group.send(taker, _packed(state, move.parameters))
        if state.kept is not None and group.rank in move.takers:
            state.kept |= frozenset(move.parameters)
    if needs is not None:
        group.all_gather(GO_AHEAD)  # all have theirs
        state.keep_only(frozenset(needs[group.rank]))
    elif group.rank in able:
        state.kept = None


def _kept(
    group: Group, state: TrainingState, able: Collection[int]
) -> dict[int, Collection[int] | None]:
    """By rank of those `able`, what is kept there. Raises Diverged where two copies differ."""
    own = None if state.kept is None else {n: _digest(state, n) for n in sorted(state.kept)}
    told = [
        msgpack.unpackb(data, strict_map_key=False) for data in group.all_gather(msgpack.packb(own))
    ]
    kept: dict[int, Any] = {rank: told[rank] for rank in sorted(able)}
    for rank, theirs in kept.items() if group.rank in able else ():
        for number in (own or {}).keys() & (theirs or {}).keys():
            if own is not None and own[number] != theirs[number] and rank < group.rank:
                name = state.names[state.trainable[number]]
                raise Diverged(
                    f"the optimizer state of {name} differs between two trainers that keep it: "
                    "the one of this trainer cannot be trusted"
                )
    return kept


def _digest(state: TrainingState, number: int) -> int:
    digest = 0
    for name, tensor in sorted(state.moments([number])[0].items()):
        raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest = zlib.crc32(raw.data, zlib.crc32(name.encode(), digest))
    return digest


def _packed(state: TrainingState, numbers: Sequence[int]) -> bytes:
    tensors, counters = state.moments(numbers)
    copies = {
        PREFIX + n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()
    }
    return checkpoint.pack(copies, {"counters": counters})


def _unpacked(data: memoryview) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    tensors, metadata = checkpoint.unpack(bytes(data))
    if not isinstance(metadata.get("counters"), dict):
        raise Damaged("it is no optimizer state")
    return {name.removeprefix(PREFIX): t for name, t in tensors.items()}, metadata["counters"]
