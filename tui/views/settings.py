"""Settings: the connection, this screen, and its keys."""

from tui.layout import Area, Placed, across, down
from tui.panes.settings import CONNECTION, KEYS_PANE, SCREEN
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    def upper(part: Area) -> list[Placed]:
        return across(part, (CONNECTION, 0), (SCREEN, 0))

    # The keys are behind ? as well: what is set has no other place.
    return down(area, (upper, 11 if area.height < 45 else 13), (KEYS_PANE, 0))


VIEW = View(
    name="settings",
    title="Settings",
    short="Set",
    summary="which peer, versions, themes, refresh, and all keys",
    place=place,
)
