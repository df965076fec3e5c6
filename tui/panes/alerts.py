"""Alerts, insights, and the parts that health is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tui import health, text
from tui.health import Mark
from tui.pane import Box, Drawn, Listing, Pane, Record, Table, plain_lines, untold
from tui.rows import badge, bar
from tui.scene import Line, Scene
from tui.table import Column, Row
from tui.told import Alert, Insight

ACKNOWLEDGED = Mark("◦", "a", "noted", "dim")
RESOLVED = Mark("✔", "v", "resolved", "dim")


class AlertsPane(Table[Alert]):
    """Open ones first, the gravest of them first; then those that resolved by themselves."""

    id = "alerts"
    word = "alert"
    columns = (
        Column("severity", "severity", 11),
        Column("state", "state", 10, rank=1),
        Column("since", "since", 8, "right", rank=2),
        Column("rule", "rule", 14, rank=3, grow=1, width_max=26),
        Column("text", "what", 30, grow=6),
    )

    def all_items(self, scene: Scene) -> Sequence[Alert]:
        return sorted(scene.told.alerts or (), key=_order)

    def key(self, item: Alert) -> str:
        return item.id

    def row(self, scene: Scene, item: Alert, widths: Mapping[str, int]) -> Row:
        mark = health.event_mark(item.severity)
        state = ACKNOWLEDGED if item.acknowledged else Mark("!", "!", "open", mark.tone)
        if not item.is_open:
            state = RESOLVED
        tone = "dim" if not item.is_open or item.acknowledged else mark.tone
        since = "–" if item.since is None else text.clock(item.since)
        return Row(
            item.id,
            {
                "severity": [badge(mark, scene.ascii_only)]
                if item.is_open
                else [(mark.word, "dim")],
                "state": [badge(state, scene.ascii_only)],
                "since": [(since, "dim")],
                "rule": [(item.rule, "dim")],
                "text": [(item.text, tone)],
            },
        )

    def searched(self, scene: Scene, item: Alert) -> str:
        return f"{item.text} {item.rule} {item.severity} {item.peer} {item.job}"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        if scene.told.alerts is None:
            return "alerts", []
        open_ = len(scene.told.open_alerts)
        told: Line = [(f"{open_} open", "warn" if open_ else "ok"), (", ", "dim")]
        return "alerts", [*told, *self.counted(scene, box)]

    def empty(self, scene: Scene) -> str:
        return untold(scene, "alerts") if scene.told.alerts is None else "no alerts: all is well"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(alert) for alert in self.items(scene)]


class InsightsPane(Listing[Insight]):
    """Each sentence with the command that would help."""

    id = "insights"
    word = "insight"

    def all_items(self, scene: Scene) -> Sequence[Insight]:
        return scene.told.insights or ()

    def key(self, item: Insight) -> str:
        return f"{item.metric} {item.text}"

    def line(self, scene: Scene, item: Insight, width: int) -> Line:
        command: Line = [(f"  $ {item.command}", "accent")] if item.command else []
        return [(f"{scene.pick('→', '>')} {item.text}", "text"), *command]

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "insights", self.counted(scene, box)

    def empty(self, scene: Scene) -> str:
        return untold(scene, "insights") if scene.told.insights is None else "nothing to advise"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(insight) for insight in self.items(scene)]


class AlertPane(Pane):
    """The selected alert in full."""

    id = "alert"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "alert", []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        alert = ALERTS.selected(scene)
        if alert is None:
            return plain_lines([[("nothing selected", "faint")]])
        who = scene.status.name_of(alert.peer) if scene.status and alert.peer else ""
        about: Line = [badge(health.event_mark(alert.severity), scene.ascii_only)]
        for label, value in (("rule", alert.rule), ("peer", who), ("job", alert.job or "")):
            about += [(f"  {label} ", "faint"), (value, "text")] if value else []
        since = "" if alert.since is None else f"since {text.moment(alert.since)}"
        if alert.resolved_at is not None:
            since += f", resolved {text.moment(alert.resolved_at)}"
        lines: list[Line] = [about, [(since, "dim")]]
        lines += [[(line, "text")] for line in text.wrap(alert.text, box.width)]
        if alert.is_open and not alert.acknowledged:
            lines.append([("N", "accent"), (" notes it: it stops being news", "dim")])
        return plain_lines(lines)


@dataclass(frozen=True, slots=True)
class _PartRow:
    whose: str
    name: str
    points: float
    of: float
    why: str


class HealthPane(Listing[_PartRow]):
    """The scores of the cluster and of every peer, and what they are made of."""

    id = "health"
    word = "part"

    def all_items(self, scene: Scene) -> Sequence[_PartRow]:
        made = []
        for score in scene.told.health or ():
            whose = scene.status.name_of(score.peer) if scene.status and score.peer else "cluster"
            made.append(_PartRow(whose, "", score.score, 100.0, ""))
            made += [
                _PartRow(whose, part.name, part.points, part.of, part.why) for part in score.parts
            ]
        return made

    def key(self, item: _PartRow) -> str:
        return f"{item.whose}/{item.name}"

    def line(self, scene: Scene, item: _PartRow, width: int) -> Line:
        if not item.name:
            mark = health.score_mark(item.points)
            score = f"{mark.icon(scene.ascii_only)} {item.points:.0f}"
            return [(text.fit(item.whose, 18), "strong"), (f" {score} {mark.word}", mark.tone)]
        done = item.points / item.of if item.of else None
        tone = "ok" if item.points >= item.of else "warn"
        return [
            (text.fit(f"  {item.name}", 18), "dim"),
            (f" {item.points:>3.0f}/{item.of:<3.0f} ", "text"),
            *bar(done, 8, scene.ascii_only, tone),
            (f"  {item.why}", "dim"),
        ]

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        score = scene.told.score_of(None)
        if score is None:
            return "health", []
        mark = health.score_mark(score.score)
        return "health", [(f"{mark.icon(scene.ascii_only)} {score.score:.0f}", mark.tone)]

    def empty(self, scene: Scene) -> str:
        return untold(scene, "health") if scene.told.health is None else "no score yet"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(row) for row in self.items(scene)]


def _order(alert: Alert) -> tuple[bool, bool, int, float]:
    return (
        not alert.is_open,
        alert.acknowledged,
        health.gravity(alert.severity),
        -(alert.since or 0.0),
    )


ALERTS = AlertsPane()
ALERT = AlertPane()
INSIGHTS = InsightsPane()
HEALTH = HealthPane()
