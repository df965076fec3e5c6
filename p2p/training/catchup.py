"""At the start of a generation: everybody says how far it is, the highest step wins.

Behind by one round: the retained result of it, applied once more. Further behind (a joiner, which
stands at the job's initial state): the whole state from the lowest-ranked trainer that has it,
checked against the hash that every trainer at that step says.

Where the optimizer state is spread over trainers (p2p.training.spread), it is first made whole for
a joiner. If a part of it was lost with all that kept it, all go back to the newest whole state that
somebody remembers; the steps since then are computed again. Where no trainer has come as far as a
checkpoint, all begin from that (p2p.training.going_back).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgpack
import numpy as np

from collectives.operations import Group
from p2p.errors import P2PError
from p2p.training.blame import TaskFailed
from p2p.training.going_back import Offer, go_back, newest_complete
from p2p.training.parity import check_start, majority
from p2p.training.run import Run
from p2p.training.spread import Diverged, complete, is_lost, level, newest_versions

SAME_EVERYWHERE = "every peer needs the same data and versions"
Received = Literal["result", "state"]


@dataclass(frozen=True)
class CaughtUp:
    """`evaluated` = everybody knows the metrics of the step all stand at."""

    received: Received | None
    evaluated: bool


def catch_up(group: Group, run: Run, offers: Sequence[Offer] = ()) -> CaughtUp:
    """Bring every member to the highest step, be it that of a checkpoint (`offers` = what of any
    lies here). Raises Aborted, Diverged, checkpoint.Damaged, going_back.Unusable."""
    views = _gather(group, {**_hello(run), "offers": [offer.to_tell() for offer in offers]})
    steps = [int(view["step"]) for view in views]
    top = max(steps)
    _check_same_job(views, group.rank, top)
    run.odd_ranks = odd_ranks([view["probe"] for view in views])
    back = newest_complete([view["offers"] for view in views], above=top)
    if back is not None:
        go_back(group, run, offers, back)
        return CaughtUp("state", run.position.evaluated == run.position.step)
    ahead = [rank for rank, step in enumerate(steps) if step == top]
    retaining = [rank for rank in ahead if views[rank]["retained"] is not None]
    one_behind = [
        rank
        for rank, step in enumerate(steps)
        if rank not in ahead and any(_leads_on(views[r], views[rank]) for r in retaining)
    ]
    far_behind = [r for r in range(group.size) if r not in ahead and r not in one_behind]
    received: Received | None = None
    if one_behind and _give_result(group, run, retaining[0], one_behind):
        received = "result"
    newest = sorted([*ahead, *one_behind])
    kept = [views[rank]["kept"] for rank in newest]
    # Who has just taken a result stands at its step with all parameters.
    versions = [views[rank]["versions"] if rank in ahead else None for rank in newest]
    tops, _ = newest_versions(top, versions, kept)
    early = any(version != top for version in tops)  # some parameters have had later steps
    if top == 0 and not early:
        check_start(group, run)
    lost = is_lost(kept, len(run.state.trainable)) or -1 in tops
    if lost or (early and not run.strategy.asynchronous):
        _go_back(group, run, [view["point"] for view in views])
        return CaughtUp("state", run.position.evaluated == run.position.step)
    if tops and group.rank in newest:
        level(group, run.state, top, newest, versions, kept)
    is_spread = any(own is not None for own in kept)
    if is_spread and (far_behind or not run.strategy.spreads):
        complete(group, run.state, among=newest)
    if far_behind and _give_state(group, run, newest, far_behind):
        received = "state"
    # Who gets the state gets its metrics, too.
    evaluated = all(views[rank]["evaluated"] == top for rank in newest)
    return CaughtUp(received, evaluated)


def _leads_on(ahead: dict[str, Any], behind: dict[str, Any]) -> bool:
    """Whether the result that one retained is all that the other lacks."""
    retained = ahead["retained"]
    own_part = not behind["spreads"] or behind["pending"] == retained or not ahead["changed"]
    return bool(retained == behind["step"] and own_part)


def _hello(run: Run) -> dict[str, Any]:
    position, schedule, retained = run.position, run.schedule, run.strategy.retained
    return {
        "step": position.step,
        "evaluated": position.evaluated,
        "retained": retained.step if retained is not None else None,
        "changed": retained is not None and retained.agreed.finite,
        "pending": run.strategy.pending,
        "spreads": run.strategy.spreads,
        "kept": None if run.state.kept is None else sorted(run.state.kept),
        "versions": run.state.versions,
        "point": run.point,
        "probe": b"".join(run.gradients.probe),
        "job": [
            *(schedule.train_samples, schedule.global_batch, schedule.shards),
            *(schedule.seed, run.parameters, run.gradients.layout.agreed),
        ],
    }


def _gather(group: Group, view: dict[str, Any]) -> list[dict[str, Any]]:
    return [msgpack.unpackb(data) for data in group.all_gather(msgpack.packb(view))]


def _check_same_job(views: list[dict[str, Any]], rank: int, top: int) -> None:
    """Raises P2PError on a trainer whose job is not that of those ahead; TaskFailed on all when
    nobody has made a step yet, for then nobody is right."""
    first = next(view["job"] for view in views if view["step"] == top)
    others = [view["job"] for view in views if view["job"] != first]
    if top == 0 and others:
        one, other = _differing(first, others[0])
        raise TaskFailed(f"the peers differ: one has {one}, another {other}: {SAME_EVERYWHERE}")
    mine = views[rank]["job"]
    if mine != first:
        own, theirs = _differing(mine, first)
        raise P2PError(f"this peer has {own}, the others {theirs}: {SAME_EVERYWHERE}")


def _differing(one: list[Any], other: list[Any]) -> tuple[str, str]:
    """What is not the same of two jobs, in words."""
    for told in ("{0} train samples", "a model of {4} parameters", "global batches of {1}"):
        words = told.format(*one), told.format(*other)
        if words[0] != words[1]:
            return words
    return "another model", "the first one's"


def odd_ranks(probes: list[bytes]) -> list[int]:
    """Who computes other bits than most from the same samples."""
    agreed = majority(probes)
    return [rank for rank, probe in enumerate(probes) if probe != agreed]


def _go_back(group: Group, run: Run, points: list[int | None]) -> None:
    """To the newest whole state that somebody remembers."""
    newest = max(point for point in points if point is not None)
    donor = points.index(newest)
    if group.rank == donor:
        data = run.pack_point()
        for rank, point in enumerate(points):
            if point != newest:
                group.send(rank, data)
        run.restore(data)
    else:
        run.restore(run.pack_point() if run.point == newest else bytes(group.receive(donor)))


def _give_state(group: Group, run: Run, ahead: list[int], behind: list[int]) -> bool:
    """The whole state from one of `ahead` to every rank in `behind`. True where it was received."""
    mine = run.hash() if group.rank in ahead else ""
    hashes = [data.decode() for data in group.all_gather(mine.encode())]
    agreed = majority([hashes[rank] for rank in ahead])
    if run.spec.allow_nondeterminism:
        behind = [*behind, *(rank for rank in ahead if hashes[rank] != agreed)]
    elif group.rank in ahead and mine != agreed:
        raise Diverged(
            f"the state of this trainer at step {run.position.step} is {mine}, "
            f"the others have {agreed}: its results cannot be trusted"
        )
    donor = next(rank for rank in ahead if hashes[rank] == agreed)
    if group.rank == donor:
        data = run.pack()
        for rank in behind:
            group.send(rank, data)
    elif group.rank in behind:
        run.restore(bytes(group.receive(donor)), agreed)
        return True
    return False


def _give_result(group: Group, run: Run, donor: int, behind: list[int]) -> bool:
    """The last applied step's result from `donor` to every rank in `behind`, which applies it."""
    if group.rank == donor:
        result = run.strategy.retained
        assert result is not None
        for rank in behind:
            group.send(rank, _raw(result.agreed.numbers))
            if result.agreed.finite:
                group.send(rank, _raw(result.values))
    elif group.rank in behind:
        result = run.strategy.room(run.position.step)
        group.receive(donor, _raw(result.agreed.numbers))
        if result.agreed.finite:
            group.receive(donor, _raw(result.values))
        run.apply(result)
        return True
    return False


def _raw(array: np.ndarray[Any, Any]) -> memoryview:
    return memoryview(array.view(np.uint8))  # type: ignore[arg-type]
