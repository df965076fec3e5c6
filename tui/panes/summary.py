"""One or two lines that answer: is it well, what does it do, what should I do?"""

from tui import health, text
from tui.pane import Box, Drawn, Pane, plain_lines
from tui.rows import badge
from tui.scene import Line, Scene

SEVERITIES = ("critical", "error", "warning", "info")


class SummaryPane(Pane):
    id = "summary"
    has_title = False

    def height(self, scene: Scene) -> int:
        return 1 + bool(self._advice(scene))

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        if scene.status is None:
            return plain_lines([[("waiting for a peer's first answer", "dim")]])
        line = self._line(scene)
        advice = self._advice(scene)
        return plain_lines([line, advice] if advice else [line])

    def _line(self, scene: Scene) -> Line:
        status, job = scene.status, scene.job
        assert status is not None
        line: Line = [*self._score(scene), ("   ", "text"), *self._alerts(scene)]
        if job is None:
            return [*line, ("   no job", "dim")]
        mark = health.job_mark(job.state)
        line += [("   ", "text"), (job.name, "text"), (" ", "text"), badge(mark, scene.ascii_only)]
        if job.done is not None:
            line.append((f" {100 * job.done:.0f}%", "text"))
        if job.state == "running":
            line.append((f"  {text.rate(job.samples_per_second)} samples/s", "text"))
            eta_s = job.eta_s()
            if eta_s is not None:
                line.append((f"  {text.seconds(eta_s)} left", "dim"))
        return line

    def _score(self, scene: Scene) -> Line:
        score = scene.told.score_of(None)
        if score is not None:
            mark = health.score_mark(score.score)
            return [
                ("health ", "dim"),
                (f"{mark.icon(scene.ascii_only)} {score.score:.0f}", mark.tone),
            ]
        status = scene.status
        assert status is not None
        lost = sum(peer.state in ("dead", "suspect") for peer in status.peers)
        if not status.cluster.quorum:
            return [badge(health.Mark("✖", "x", "no quorum", "bad"), scene.ascii_only)]
        if lost:
            told = health.Mark("▲", "!", f"{text.plural(lost, 'peer')} missing", "warn")
            return [badge(told, scene.ascii_only)]
        return [badge(health.Mark("●", "+", "healthy", "ok"), scene.ascii_only)]

    def _alerts(self, scene: Scene) -> Line:
        if scene.told.alerts is None:
            return [("alerts: –", "faint")]
        open_ = scene.told.open_alerts
        line: Line = []
        for severity in SEVERITIES:
            number = sum(alert.severity == severity for alert in open_)
            if number:
                mark = health.event_mark(severity)
                line += [(f"{mark.icon(scene.ascii_only)} {number} {severity}  ", mark.tone)]
        return line or [("no alerts", "dim")]

    def _advice(self, scene: Scene) -> Line:
        """The gravest alert nobody has acknowledged, else the first insight."""
        alerts = [alert for alert in scene.told.open_alerts if not alert.acknowledged]
        if alerts:
            gravest = min(alerts, key=lambda one: (health.gravity(one.severity), -(one.since or 0)))
            mark = health.event_mark(gravest.severity)
            return [(f"{mark.icon(scene.ascii_only)} {gravest.text}", mark.tone)]
        insights = scene.told.insights or ()
        if not insights:
            return []
        first = insights[0]
        command: Line = [(f"  $ {first.command}", "accent")] if first.command else []
        return [(f"{scene.pick('→', '>')} {first.text}", "text"), *command]


SUMMARY = SummaryPane()
