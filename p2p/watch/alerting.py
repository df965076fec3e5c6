"""From what rules find, second by second, to alerts: pending, firing, resolved. Pure.

A finding that holds for its rule's `for_s` fires; one that has not been found for `clear_s` is
resolved, by itself. One that comes and goes fires a few times, then stays until it has been quiet
for long: people are told of a change, not of every flicker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from p2p.watch.facts import Facts, Severity
from p2p.watch.rule import Finding, Rule

FLAPS_MAX = 3  # firings within FLAPS_WITHIN_S from which on it is damped
FLAPS_WITHIN_S = 600.0
DAMPED_S = 120.0  # so long a damped one must be quiet
BLIND_S = 3.0  # who did not look for so long knows nothing of what lasted meanwhile
FIRING_MAX = 500
RESOLVED_MAX = 100
RESOLVED_KEPT_S = 3_600.0

State = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One that fired. Times are monotonic seconds of the peer that looks; `since_s` is when the
    condition began to hold. `firings`: when it fired of late, the newest last."""

    id: str
    rule: Rule
    found: Finding
    since_s: float
    seen_s: float
    firings: tuple[float, ...]
    resolved_s: float | None = None

    @property
    def severity(self) -> Severity:
        return self.rule.severity

    @property
    def is_firing(self) -> bool:
        return self.resolved_s is None

    @property
    def is_damped(self) -> bool:
        return len(self.firings) >= FLAPS_MAX

    @property
    def text(self) -> str:
        if not self.is_damped:
            return self.found.text
        return f"{self.found.text} (comes and goes: {len(self.firings)} times in 10 minutes)"


@dataclass(frozen=True, slots=True)
class Change:
    """What people are told of."""

    alert: Alert
    state: State


@dataclass(frozen=True, slots=True)
class Alerting:
    """`pending`: since when a finding holds that has not fired, by id. `alerts`: by id those that
    fire, and those that were resolved lately."""

    stepped_s: float | None = None
    pending: Mapping[str, float] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)

    @property
    def firing(self) -> list[Alert]:
        return [alert for alert in self.alerts.values() if alert.is_firing]


def step(was: Alerting, rules: Sequence[Rule], facts: Facts) -> tuple[Alerting, list[Change]]:
    """A look at the facts; call it about once a second."""
    now_s = facts.now_s
    blind = was.stepped_s is None or now_s - was.stepped_s > BLIND_S
    pending: dict[str, float] = {}
    alerts = dict(was.alerts)
    changes: list[Change] = []
    room = FIRING_MAX - len(was.firing)
    held: set[str] = set()
    for rule in rules:
        # Whatever is beyond the threshold is beyond the milder limit: mostly nothing is.
        kept = raised = _found(rule, facts, rule.clear)
        if kept and rule.clear != rule.threshold:
            raised = _found(rule, facts, rule.threshold)
        for id_, found in {**kept, **raised}.items():
            known = alerts.get(id_)
            if known is not None and known.is_firing:
                held.add(id_)
                alerts[id_] = replace(known, rule=rule, found=found, seen_s=now_s)
            elif id_ in raised:
                since_s = now_s if blind else was.pending.get(id_, now_s)
                if now_s - since_s >= rule.for_s and room > 0:
                    room -= 1
                    held.add(id_)
                    alerts[id_] = _fired(known, id_, rule, found, since_s, now_s)
                    changes.append(Change(alerts[id_], "firing"))
                else:
                    pending[id_] = since_s
    for id_, alert in alerts.items():
        if alert.is_firing and id_ not in held and now_s - alert.seen_s >= _quiet_s(alert):
            alerts[id_] = replace(alert, resolved_s=now_s)
            changes.append(Change(alerts[id_], "resolved"))
    return Alerting(now_s, pending, _without_old(alerts, now_s)), changes


def _found(rule: Rule, facts: Facts, limit: float) -> dict[str, Finding]:
    """By id. What is in the log may be of any shape: a rule that stumbles over it must not end the
    peer, and is told of."""
    try:
        return {rule.id_of(found): found for found in rule.check(facts, limit)}
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        text = f"the rule {rule.name} cannot be judged: {error!r}"[:300]
        return {f"{rule.name}/unjudged": Finding(text, "rule", 1.0)}


def _fired(
    known: Alert | None, id_: str, rule: Rule, found: Finding, since_s: float, now_s: float
) -> Alert:
    before = known.firings if known else ()
    lately = tuple(at_s for at_s in before if now_s - at_s < FLAPS_WITHIN_S)
    return Alert(id_, rule, found, since_s, now_s, (*lately, now_s))


def _quiet_s(alert: Alert) -> float:
    return max(alert.rule.clear_s, DAMPED_S) if alert.is_damped else alert.rule.clear_s


def _without_old(alerts: Mapping[str, Alert], now_s: float) -> dict[str, Alert]:
    """All that fire, and the newest of the others."""
    resolved = [
        alert
        for alert in alerts.values()
        if alert.resolved_s is not None and now_s - alert.resolved_s < RESOLVED_KEPT_S
    ]
    newest = sorted(resolved, key=lambda alert: alert.resolved_s or 0.0)[-RESOLVED_MAX:]
    firing: Iterable[Alert] = (alert for alert in alerts.values() if alert.is_firing)
    return {alert.id: alert for alert in (*newest, *firing)}
