"""What each serve job needs next: weights, peers for its replicas, more or fewer of them. Pure.

First match wins, and one thing at a time: the next is planned when this one has been applied.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from p2p.content.messages import is_sha256
from p2p.control.failures import crash_sentence
from p2p.control.placement import least_peers, priority
from p2p.control.rollouts import (
    Command,
    Told,
    assign,
    crowded,
    of_service,
    older_replica,
    open_peers,
    rolled_out,
    waits,
)
from p2p.control.scaling import scaled
from p2p.replicated.service import Service
from p2p.replicated.state import Checkpoint, Member, State
from p2p.reports import Observed

_PREFIX = "sha256:"


def plan_services(
    state: State, peers: Mapping[str, Member], observed: Observed
) -> Iterator[Command]:
    """`peers` can start children now."""
    for service in state.services.values():
        if service.is_ended:
            continue
        told = {
            replica.child: (peer, replica)
            for peer, report in observed.reports.items()
            if peer in peers
            for replica in report.replicas
            if replica.service == service.id
        }
        rules = (
            _changed(service, state, peers, observed, told),
            _crashed(service, peers, told),
            _failed(service, peers, told),
            crowded(service, state, peers, told),
            _newer(service, state),
            scaled(service, observed),
            _placed(service, state, peers),
        )
        yield from next((found for rule in rules if (found := list(rule))), ())


def _changed(
    service: Service,
    state: State,
    peers: Mapping[str, Member],
    observed: Observed,
    told: Told,
) -> Iterator[Command]:
    """Who can answer now, and who cannot any more."""
    for replica in service.replicas:
        member = state.members.get(replica.peer)
        name = member.name if member else replica.peer
        reason = ""
        if replica.peer not in peers:
            reason = f"{name} is gone"
        elif replica.peer in observed.reports:
            # A new leader judges no replica before its peer has reported.
            phase = told[replica.child][1].phase if replica.child in told else "gone"
            reason = f"that of {name} ended" if phase != "ready" else ""
        if reason:
            yield {**of_service("lost", service), "child": replica.child, "reason": reason}
    known = {replica.child for replica in service.replicas}
    for child, (peer, report) in told.items():
        if report.phase != "ready" or child in known or peer not in service.assigned:
            continue
        if report.revision == service.assigned[peer]:
            facts = {"child": child, "peer": peer, "revision": report.revision}
            yield {**of_service("ready", service), **facts, "model": dict(report.model)}


def _crashed(service: Service, peers: Mapping[str, Member], told: Told) -> Iterator[Command]:
    """What died is told of once, with what happens next."""
    for peer, report in told.values():
        dead = report.crashed
        if dead and dead["error"] and service.crashed.get(peer) != dead["child"]:
            reason = crash_sentence(f"the replica of {peers[peer].name}", dead)
            facts = {"peer": peer, "child": dead["child"], "reason": reason}
            yield {**of_service("crashed", service), **facts}


def _failed(service: Service, peers: Mapping[str, Member], told: Told) -> Iterator[Command]:
    """A peer whose replica cannot be is set aside; with no peer left the service fails."""
    for peer, report in told.values():
        if report.phase == "failed" and service.assigned.get(peer) == report.revision:
            why = f"{peers[peer].name} is set aside: {report.error or 'its replica failed'}"
            kept = {other: n for other, n in service.assigned.items() if other != peer}
            older = older_replica(service, peer)
            if older is not None:  # it goes on with that
                kept[peer] = older.revision
            yield {**assign(service, kept, why), "excluded": {peer: why}}
            return
    able = {peer.id for peer in peers.values() if peer.slots > 0} - set(service.excluded)
    if service.excluded and not service.assigned and not able:
        why = "; ".join(service.excluded.values())
        yield {**of_service("fail", service), "reason": f"no peer is left: {why}"}


def _newer(service: Service, state: State) -> Iterator[Command]:
    """The newest checkpoint of the job that it follows, whose replicas then come one by one."""
    job = state.jobs.get(service.follows or "")
    made = job.checkpoint if job else None
    if job is None or made is None:
        if service.follows and service.revision.number == 0 and (job is None or job.is_final):
            yield {**of_service("fail", service), "reason": f"{service.source} has no checkpoint"}
        elif service.follows and service.revision.number == 0 and job is not None:
            ask = f"`p2pnode checkpoint {job.id}` makes one now"
            reason = f"waits for the first checkpoint of {job.name}: {ask}"
            yield from waits(service, reason)
        return
    is_new = service.revision.number == 0 or made.step > service.revision.step
    rolling = any(
        number != service.revision.number and peer not in service.excluded  # else it never comes
        for peer, number in service.assigned.items()
    )
    if is_new and not rolling and (told := revision_of(made)) is not None:
        reason = f"the checkpoint of step {made.step} of {job.name} is rolled out"
        fields = {"after": service.revision.number, "revision": told, "reason": reason}
        yield {**of_service("revise", service), **fields}


def revision_of(made: Checkpoint) -> dict[str, Any] | None:
    """The weights in a checkpoint, as a command has them; None if they cannot be fetched: what
    older versions wrote has no hashes.
    """
    parts = [part for part in made.parts if part.number < made.count]
    if not all(is_sha256(part.digest.removeprefix(_PREFIX)) for part in parts):
        return None
    files = [
        {
            "name": f"{part.number:05d}",
            "sha256": part.digest.removeprefix(_PREFIX),
            "bytes": part.bytes,
            "peer": part.peer,
            "path": part.path,
        }
        for part in parts
    ]
    return {"step": made.step, "state_hash": made.state_hash, "files": files}


def _placed(service: Service, state: State, peers: Mapping[str, Member]) -> Iterator[Command]:
    """As many peers with a free slot as replicas are wanted, and on all of them the newest
    weights: one peer at a time loads others, so that the rest go on answering.
    """
    newest = service.revision.number
    if newest == 0:
        return
    answering = {replica.peer: replica.revision for replica in service.replicas}
    here = {
        peer: n
        for peer, n in service.assigned.items()
        if peer in peers and not (peer in service.excluded and peer not in answering)
    }
    best = sorted(here, key=lambda p: (answering.get(p) != newest, p not in answering, p))
    # The newest may come to another peer before the last one with older weights goes.
    moves = newest not in answering.values() and any(n != newest for n in here.values())
    kept = best[: service.target + moves]
    added = open_peers(service, state, peers)[: max(0, service.target - len(kept))]
    wanted = {peer: here[peer] for peer in kept} | dict.fromkeys(added, newest)
    names = " and ".join(peers[peer].name for peer in added)
    if wanted.keys() != service.assigned.keys():
        left = "1 replica stays" if len(wanted) == 1 else f"{len(wanted)} replicas stay"
        reason = f"{names} loads it" if added else left
        yield assign(service, wanted, reason)
        return
    if len(wanted) < service.replicas_min and (taken := _room(service, state, peers)):
        yield taken
        return
    if len(wanted) < service.replicas_min and not service.replicas:
        lacking = service.replicas_min - len(wanted)
        yield from waits(
            service,
            f"waits for another peer with a free slot: `p2pnode add {lacking}`",
        )
        return
    yield from rolled_out(service, peers)


def _room(service: Service, state: State, peers: Mapping[str, Member]) -> Command | None:
    """A peer of a train job that has more than its least, of the lowest priority first."""
    for job in sorted(state.jobs.values(), key=priority):
        has = [peer for peer in job.assigned if peer in peers]
        may = [p for p in has if p not in service.excluded and p not in service.assigned]
        if job.is_final or job.state == "paused" or not may or len(has) <= least_peers(job):
            continue
        kept = [peer for peer in job.assigned if peer != may[-1]]
        reason = f"{peers[may[-1]].name} goes to {service.name}, which is to be served"
        return {"type": "job.assign", "job": job.id, "peers": kept, "reason": reason}
    return None
