"""Events: all of them, filtered by level and text, and the selected one in full."""

from tui.layout import Area, Placed, down
from tui.panes.events import EVENT, EVENTS
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    return down(area, (EVENTS, 0), (EVENT, 4))


VIEW = View(
    name="events",
    title="Events",
    short="Log",
    summary="everything that happened: follow, filter by level (v) and text (/)",
    place=place,
)
