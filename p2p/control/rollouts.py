"""How newer weights of a serve job come, peer by peer, so that somebody always answers. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from p2p.control.placement import free_slots
from p2p.replicated.service import Replica, Service
from p2p.replicated.state import TEXT_MAX, Member, State
from p2p.reports import ReplicaReport

Command = dict[str, Any]
Told = Mapping[str, tuple[str, ReplicaReport]]  # by child, its peer and what it said


def older_replica(service: Service, peer: str) -> Replica | None:
    """What answers there with weights that have been replaced."""
    number = service.revision.number
    there = (replica for replica in service.replicas if replica.peer == peer)
    return next((replica for replica in there if replica.revision < number), None)


def crowded(
    service: Service, state: State, peers: Mapping[str, Member], told: Told
) -> Iterator[Command]:
    """A peer has no room for newer weights beside the older ones. Where others answer, the older
    make room; else another peer loads the newer ones, or they wait: somebody always answers.
    """
    step = service.revision.step
    for peer, report in told.values():
        older = older_replica(service, peer)
        is_asked = report.phase == "crowded" and service.assigned.get(peer) == report.revision
        if older is None or not is_asked:
            continue
        name = peers[peer].name
        if any(replica.peer != peer for replica in service.replicas):
            reason = f"that of {name} makes room for the weights of step {step}"
            yield {**of_service("lost", service), "child": older.child, "reason": reason}
        elif found := open_peers(service, state, peers):
            wanted = {**service.assigned, peer: older.revision, found[0]: service.revision.number}
            why = f"{name} has no room for both"
            reason = f"{peers[found[0]].name} loads the weights of step {step}, as {why}"
            yield assign(service, wanted, reason)
        else:
            reason = f"goes on with older weights: those of step {step} wait, as on {name} "
            yield from waits(service, f"{reason}{report.error} (more --replicas would help)")
        return


def open_peers(service: Service, state: State, peers: Mapping[str, Member]) -> list[str]:
    """Peers that could load it: the most free slots first, of these who has the files."""
    free = free_slots(state, peers)
    has = {file.peer for file in service.revision.files}
    return [
        peer
        for peer in sorted(peers, key=lambda p: (-free[p], p not in has, peers[p].name))
        if free[peer] > 0 and peer not in service.assigned and peer not in service.excluded
    ]


def rolled_out(service: Service, peers: Mapping[str, Member]) -> Iterator[Command]:
    newest = service.revision.number
    loading = [peer for peer, n in service.assigned.items() if n == newest]
    answering = {replica.peer for replica in service.replicas if replica.revision == newest}
    older = sorted(peer for peer, n in service.assigned.items() if n != newest)
    able = [peer for peer in older if peer not in service.excluded]
    if able and set(loading) <= answering:
        reason = f"{peers[able[0]].name} loads the weights of step {service.revision.step}"
        yield assign(service, {**service.assigned, able[0]: newest}, reason)
    elif older and not able and not loading:
        why = "; ".join(service.excluded[peer] for peer in older)
        step = service.revision.step
        yield from waits(service, f"goes on with older weights than those of step {step}: {why}")


def waits(service: Service, reason: str) -> Iterator[Command]:
    told = reason[:TEXT_MAX]  # as the log keeps it: else it would be new again and again
    if service.reason != told:
        yield {**of_service("wait", service), "reason": told}


def assign(service: Service, wanted: Mapping[str, int], reason: str) -> Command:
    return {**of_service("assign", service), "peers": dict(wanted), "reason": reason}


def of_service(verb: str, service: Service) -> Command:
    return {"type": f"serve.{verb}", "service": service.id}
