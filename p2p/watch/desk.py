"""A peer's own judging: looks once a second, remembers what fired, and lets people know.

Every peer judges by the same pure rules over what it knows, so whoever is asked can answer, also
without a quorum. Only the leader puts changes into the events and notifies; where nobody leads,
each peer that has somebody to notify does, for once a message too many is better than none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError
from p2p.measure import told
from p2p.measure.measures import FRESH_S
from p2p.replicated.apply_alerts import event_command
from p2p.replicated.state import TEXT_MAX
from p2p.watch import health, insights
from p2p.watch.alerting import Alert, Alerting, Change, step
from p2p.watch.facts import SEVERITIES, Facts
from p2p.watch.notify import Notify
from p2p.watch.rule import Rule

if TYPE_CHECKING:
    from p2p.peer import Peer

LOOK_EVERY_S = 1.0
AGREED_WITHIN_S = 1.0
# Who began to look just now does not know yet what fires.
SETTLED_S = 20.0
_EVENT_SEVERITY = {"info": "info", "warning": "warning", "critical": "error"}


class WatchDesk:
    def __init__(self, peer: Peer, rules: Sequence[Rule], notify: Notify) -> None:
        self._peer = peer
        self._rules = tuple(rules)
        self._notify = notify
        self._alerting = Alerting()
        self._looked_s = self._began_s = peer.parts.clock.monotonic_s()

    def on_tick(self, now_s: float) -> None:
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        if self._is_in:
            facts = self.facts()
            self._alerting, changes = step(self._alerting, self._rules, facts)
            for change in changes:
                self._tell(change, facts)
            self._forget_resolved(now_s)

    @property
    def _is_in(self) -> bool:
        """Whether it has anything to judge; without a quorum the log cannot name a new process."""
        return self._peer.is_voter or self._peer.identity.id in self._peer.state.members

    def facts(self) -> Facts:
        """What is asked of everybody is what everybody tells; of itself a peer knows more."""
        peer, now_s = self._peer, self._peer.parts.clock.monotonic_s()
        vitals, me = peer.bulletins.vitals(), peer.identity.id
        latest = told.latest(vitals)
        latest[me] = {**latest.get(me, {}), **peer.measures.histories.latest(now_s - FRESH_S)}
        return Facts(
            now_s=now_s,
            unix_s=peer.parts.clock.unix_s(),
            state=peer.state,
            raft=peer.raft_view(),
            vitals=vitals,
            latest=latest,
        )

    # -- what is asked ---------------------------------------------------------------------------

    def alerts(self) -> list[dict[str, Any]]:
        """Those that fire, worst and newest first, then those that were resolved lately."""
        facts = self.facts()
        ordered = sorted(self._alerting.alerts.values(), key=_order)
        return [self._to_wire(alert, facts) for alert in ordered]

    def health(self) -> dict[str, Any]:
        return health.to_wire(self.facts(), self._alerting.firing)

    def insights(self) -> dict[str, Any]:
        return insights.to_wire(self.facts(), self._alerting.firing)

    def _to_wire(self, alert: Alert, facts: Facts) -> dict[str, Any]:
        resolved_s, found, rule = alert.resolved_s, alert.found, alert.rule
        return {
            "id": alert.id,
            "rule": rule.name,
            "severity": alert.severity,
            "peer": found.peer,
            "job": found.job,
            "since": round(facts.unix_s - (facts.now_s - alert.since_s), 3),
            "text": alert.text,
            "acknowledged": alert.is_firing and alert.id in facts.state.acknowledged,
            "resolved_at": (
                None if resolved_s is None else round(facts.unix_s - (facts.now_s - resolved_s), 3)
            ),
            "metric": found.metric,
            "value": found.value,
            "threshold": rule.threshold,
        }

    # -- what people are told --------------------------------------------------------------------

    def tell_event(
        self,
        kind: str,
        severity: str,
        text: str,
        peer: str | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Into the events, by way of the leader; lost where there is none. `then`: what is done
        once it is agreed, or cannot be soon."""
        asked = {"kind": kind, "severity": severity, "text": text, "peer": peer, "job": None}
        me, leader, id_ = self._peer, self._peer.raft.status.leader, self._peer.parts.new_id()
        if then is not None:
            within_s = 0.0 if leader is None else AGREED_WITHIN_S
            me.requests.when_applied(id_, then, within_s)
        if me.raft.is_leader:
            self._propose({**event_command(me.state, asked), "request": id_})
        elif leader is not None:
            me.send(leader, "request", {"id": id_, "verb": "event.tell", "args": asked})

    def _tell(self, change: Change, facts: Facts) -> None:
        alert, leads = change.alert, self._peer.raft.is_leader
        if leads:
            self._propose(_event(change))
        if (leads or self._peer.raft.status.leader is None) and not (
            alert.is_firing and alert.id in self._peer.state.acknowledged
        ):
            self._notify.tell({**self._to_wire(alert, facts), "state": change.state})

    def _forget_resolved(self, now_s: float) -> None:
        """Somebody had seen it; when it fires again, that is new."""
        if not self._peer.raft.is_leader or now_s - self._began_s < SETTLED_S:
            return
        alerts = self._alerting.alerts
        gone = [
            id_
            for id_ in self._peer.state.acknowledged
            if id_ not in alerts or not alerts[id_].is_firing
        ]
        if gone:
            self._propose({"type": "alert.forget", "alerts": gone})

    def _propose(self, command: Mapping[str, Any]) -> None:
        with contextlib.suppress(P2PError):  # no quorum, or too busy: an event less
            self._peer.propose(command)


def _order(alert: Alert) -> tuple[object, ...]:
    if alert.resolved_s is not None:
        return True, 0, -alert.resolved_s, alert.id
    return False, -SEVERITIES.index(alert.severity), -alert.firings[-1], alert.id


def _event(change: Change) -> dict[str, Any]:
    alert = change.alert
    if change.state == "firing":
        text, severity = f"{alert.rule.name}: {alert.text}", _EVENT_SEVERITY[alert.severity]
    else:
        lasted_s = (alert.resolved_s or 0.0) - alert.since_s
        text, severity = f"{alert.rule.name} is over after {lasted_s:.0f} s: {alert.text}", "info"
    named = {"peer": alert.found.peer, "job": alert.found.job}
    told = {"kind": "alert", "severity": severity, "text": text[:TEXT_MAX], **named}
    return {"type": "event.told", **told}
