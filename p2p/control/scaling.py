"""How many replicas a service shall have, between its bounds, by the prompts that wait. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from p2p.replicated.service import Service
from p2p.reports import Observed, PeerReport

Command = dict[str, Any]
Pressure = Literal["more", "fewer", "none"]

MORE_AFTER_S = 1.0
FEWER_AFTER_S = 30.0
FEW_PROMPTS = 4  # for each replica that would be left


def waiting(service: str, reports: Iterable[PeerReport]) -> tuple[int, int]:
    """Prompts that no replica has begun, and those that are being answered."""
    told = list(reports)
    replicas = [r for report in told for r in report.replicas if r.service == service]
    queued = sum(report.queued.get(service, 0) for report in told)
    return queued + sum(r.waiting for r in replicas), sum(r.running for r in replicas)


def pressure(service: Service, reports: Iterable[PeerReport]) -> Pressure:
    queued, running = waiting(service.id, reports)
    if queued and len(service.replicas) >= service.target:
        return "more"  # those that are still to come may be enough
    if not queued and running <= FEW_PROMPTS * (service.target - 1):
        return "fewer"
    return "none"


def pressures(
    services: Iterable[Service],
    reports: Iterable[PeerReport],
    before: Mapping[str, tuple[str, float]],
    now_s: float,
) -> dict[str, tuple[str, float]]:
    """What each asks for, and since when it has: a moment's load says nothing."""
    told = list(reports)
    found: dict[str, tuple[str, float]] = {}
    for service in services:
        if service.is_ended or service.replicas_min == service.replicas_max:
            continue
        now = pressure(service, told)
        was, since_s = before.get(service.id, ("", now_s))
        found[service.id] = (now, since_s if was == now else now_s)
    return found


def scaled(service: Service, observed: Observed) -> Iterator[Command]:
    wish, since_s = observed.pressure.get(service.id, ("none", 0.0))
    lasted_s = observed.now_s - since_s
    target = service.target
    queued, running = waiting(service.id, observed.reports.values())
    if wish == "more" and lasted_s >= MORE_AFTER_S and target < service.replicas_max:
        why = f"{queued} prompts wait for {target} of up to {service.replicas_max} replicas"
        yield _scale(service, target + 1, why)
    elif wish == "fewer" and lasted_s >= FEWER_AFTER_S and target > service.replicas_min:
        why = f"{running} prompts at a time for {FEWER_AFTER_S:g} s need fewer"
        yield _scale(service, target - 1, why)


def _scale(service: Service, target: int, reason: str) -> Command:
    told = {"type": "serve.scale", "service": service.id, "target": target}
    return {**told, "reason": reason}
