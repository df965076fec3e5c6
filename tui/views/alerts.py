"""Alerts: what is wrong, what to do about it, and what health is made of."""

from tui.layout import Area, Placed, across, down, share
from tui.panes.alerts import ALERT, ALERTS, HEALTH, INSIGHTS
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    alerts = share(4, 2 + len(scene.told.alerts or ()), area.height * 2 // 5)
    insights = share(3, 1 + len(scene.told.insights or ()), area.height // 5)

    def lower(part: Area) -> list[Placed]:
        if part.width < 110:
            return down(part, (HEALTH, 0))
        return across(part, (HEALTH, 0), (ALERT, part.width // 2))

    if area.width < 110:
        return down(area, (ALERTS, alerts), (ALERT, 5), (INSIGHTS, insights), (HEALTH, 0))
    return down(area, (ALERTS, alerts), (INSIGHTS, insights), (lower, 0))


VIEW = View(
    name="alerts",
    title="Alerts",
    short="Alerts",
    summary="alerts, insights with the command that helps, health and its parts",
    place=place,
    needs=frozenset({"alerts", "insights", "health"}),
)
