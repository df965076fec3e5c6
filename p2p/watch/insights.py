"""Sentences about what would help: each cites a metric, its value and the limit it was held to,
and names a command. Pure; a new one = a function and an entry in INSIGHTS.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import median
from typing import Any

from p2p.control.rebalancing import deal
from p2p.replicated.state import Job
from p2p.watch import scaling
from p2p.watch.alerting import Alert
from p2p.watch.facts import SEVERITIES, Facts, Severity
from p2p.watch.rules_training import paces
from p2p.watch.scaling import Speed

SLOWER_TIMES = 1.3
EXCHANGE_SHARE = 0.5
EFFICIENCY = 0.7
BUSY_PERCENT = 95.0
LAG_S = 0.25


@dataclass(frozen=True, slots=True)
class Insight:
    """`value` of `metric` was held against `threshold`; `command` is what to run, as it stands."""

    text: str
    metric: str
    value: float
    threshold: float
    command: str
    severity: Severity = "info"
    peer: str | None = None
    job: str | None = None


Source = Callable[[Facts, Sequence[Alert]], Iterator[Insight]]


def _votes(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    """Whether anybody may fail at all."""
    there = [member for member in facts.peers if facts.answers(member.id)]
    spare = facts.spare_voters
    if not facts.raft.quorum or spare >= 1:
        return
    voters, missing = len(facts.raft.voters), max(1, 3 - len(there))
    if voters < 3:
        who = facts.name(next(iter(facts.raft.voters), None))
        text = (
            f"only {who} votes (raft.voters 1, 3 would be safe): if it fails, the cluster stops; "
            f"with {missing} more peer{'s' * (missing > 1)} any one may fail"
        )
        yield Insight(text, "raft.voters", float(voters), 3.0, f"p2pnode add {missing}")
        return
    lost = [facts.name(peer) for peer in sorted(facts.raft.voters) if not facts.answers(peer)]
    text = (
        f"no voter may fail now (raft.spare_voters {max(spare, 0)}, 1 would be safe), for "
        f"{', '.join(lost)} is missing: a new peer takes over its vote, or start it again"
    )
    yield Insight(text, "raft.spare_voters", float(max(spare, 0)), 1.0, "p2pnode add", "warning")


def _stragglers(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    """What a step would take without the slowest, by what each needs for a shard."""
    for job in facts.running:
        told = paces(facts, job)
        if len(told) < 2 or job.generation is None:
            continue
        slow = max(told, key=lambda peer: told[peer].shard_s)
        others_s = [pace.shard_s for peer, pace in told.items() if peer != slow]
        usual_s = median(others_s)
        times = told[slow].shard_s / usual_s if usual_s > 0 else 1.0
        if times < SLOWER_TIMES:
            continue
        held = {s.peer: s.last_shard - s.first_shard for s in job.generation.seats}
        shards = sum(held.values())
        now_s = max(held[peer] * told[peer].shard_s for peer in told)
        without_s = max(
            count * took_s for count, took_s in zip(deal(shards, others_s), others_s, strict=True)
        )
        change = now_s / without_s - 1.0 if without_s > 0 else 0.0
        effect = f"cost {-change:.0%}" if change < 0 else f"gain {change:.0%}"
        moved = f"it has {held[slow]} of {shards} shards"
        name = facts.name(slow)
        text = (
            f"{name} is {times:.1f} times slower than the median in {job.name} "
            f"(job.{job.id}.compute_s per shard {told[slow].shard_s:.3f} s, others {usual_s:.3f} "
            f"s; limit {SLOWER_TIMES:g} times): {moved}; without it the job would {effect} in speed"
        )
        metric, command = f"job.{job.id}.compute_s", f"p2pnode remove {name}"
        severity: Severity = "warning" if change > 0 else "info"
        yield Insight(text, metric, times, SLOWER_TIMES, command, severity, slow, job.id)


def _exchange(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    """Steps that are mostly waiting for gradients to travel."""
    for job in facts.running:
        if len(job.members) < 2:
            continue
        barrier_s = _median(facts, f"job.{job.id}.barrier_s")
        step_s = _median(facts, f"job.{job.id}.step_s")
        share = barrier_s / step_s if step_s > 0 else 0.0
        if share < EXCHANGE_SHARE:
            continue
        text = (
            f"{job.name} spends {share:.0%} of a step in the exchange (job.{job.id}.barrier_s "
            f"{barrier_s:.4f} s of {step_s:.4f} s, limit {EXCHANGE_SHARE:.0%}): a larger batch, "
            "fewer exchanges or fewer bytes would help"
        )
        command = f"p2pnode set {job.id} strategy=auto"
        yield Insight(
            text, f"job.{job.id}.barrier_s", share, EXCHANGE_SHARE, command, "info", None, job.id
        )


def _scaling(told: Iterable[tuple[Job, list[Speed]]]) -> Iterator[Insight]:
    for job, speeds in told:
        if len(speeds) < 2:
            continue
        base, most = speeds[0], speeds[-1]
        times = most.samples_per_s / base.samples_per_s
        text = (
            f"{job.name} makes {most.samples_per_s:.0f} samples/s with {most.trainers} trainers, "
            f"{times:.2f} times what {base.trainers} made ({base.samples_per_s:.0f}): efficiency "
            f"{most.efficiency:.0%}, limit {EFFICIENCY:.0%}"
        )
        good = most.efficiency >= EFFICIENCY
        command = "p2pnode add" if good else f"p2pnode set {job.id} strategy=auto"
        metric = f"job.{job.id}.samples_per_s"
        yield Insight(text, metric, most.efficiency, EFFICIENCY, command, "info", None, job.id)


def _shared_hosts(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    """Trainers that take each other's cores."""
    for job in facts.running:
        hosts: dict[str, list[str]] = {}
        for peer in job.members:
            if peer in facts.state.members:
                hosts.setdefault(facts.state.members[peer].host, []).append(peer)
        for host, peers in hosts.items():
            busy = max(
                (facts.latest.get(peer, {}).get("system.cpu_percent", 0.0) for peer in peers),
                default=0.0,
            )
            if len(peers) > 1 and busy >= BUSY_PERCENT:
                text = (
                    f"{len(peers)} trainers of {job.name} share {host}, whose cores are all busy "
                    f"(system.cpu_percent {busy:.0f}, limit {BUSY_PERCENT:.0f}): more of them "
                    "there make it no faster, another machine would"
                )
                yield Insight(
                    text, "system.cpu_percent", busy, BUSY_PERCENT, "p2pnode peers", job=job.id
                )


def _late_loops(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    for figure in facts.figures("process.loop_lag_s"):
        if figure.value >= LAG_S:
            name = facts.name(figure.peer)
            text = (
                f"{name} comes late to its own ticks (process.loop_lag_s {figure.value:.2f} s, "
                f"limit {LAG_S:g} s): its host is overloaded, and it may be taken for dead"
            )
            command = f"p2pnode events --for-peer {name}"
            yield Insight(text, figure.metric, figure.value, LAG_S, command, "warning", figure.peer)


def _waiting(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    """Jobs for which there are not enough peers."""
    able = sum(member.slots > 0 and facts.answers(member.id) for member in facts.peers)
    for job in facts.state.jobs.values():
        wanted = job.spec.get("peers_min") or 1
        if job.state == "queued" and able < wanted:
            text = (
                f"{job.name} waits for {wanted} peers that train (job.{job.id}.peers {able}, limit "
                f"{wanted}): {wanted - able} more are needed"
            )
            command = f"p2pnode add {wanted - able}"
            metric = f"job.{job.id}.peers"
            yield Insight(
                text, metric, float(able), float(wanted), command, "warning", None, job.id
            )


# The alerts of these rules are said better by a function here.
_SAID_BETTER = frozenset({"straggler", "quorum-margin"})


def _of_alerts(facts: Facts, firing: Sequence[Alert]) -> Iterator[Insight]:
    for alert in firing:
        rule, found = alert.rule, alert.found
        if rule.name in _SAID_BETTER:
            continue
        command = rule.command.replace("JOB", found.job or "JOB")
        command = command.replace("PEER", facts.name(found.peer) if found.peer else "PEER")
        text = f"{alert.text} ({found.metric} {found.value:g}, limit {rule.threshold:g})"
        told = (found.metric, found.value, rule.threshold, command, alert.severity)
        yield Insight(text, *told, found.peer, found.job)


INSIGHTS: tuple[Source, ...] = (
    _of_alerts,
    _votes,
    _waiting,
    _stragglers,
    _late_loops,
    _exchange,
    _shared_hosts,
)


def to_wire(facts: Facts, firing: Sequence[Alert]) -> dict[str, Any]:
    """The answer to `insights`, the worst first; `scaling`: what was measured, by job."""
    told = scaling.measured(facts.state.jobs.values())
    found = chain(*(source(facts, firing) for source in INSIGHTS), _scaling(told))
    ordered = sorted(found, key=lambda insight: SEVERITIES.index(insight.severity), reverse=True)
    return {
        "insights": [asdict(insight) for insight in ordered],
        "scaling": [
            {"job": job.id, "name": job.name, "speeds": [speed.to_wire() for speed in speeds]}
            for job, speeds in told
            if speeds
        ],
    }


def _median(facts: Facts, metric: str) -> float:
    values = [figure.value for figure in facts.figures(metric)]
    return median(values) if values else 0.0
