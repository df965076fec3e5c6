"""Peers: the table, and the selected one in words and charts."""

from tui.layout import Area, Placed, across, down, grid, share
from tui.pane import Pane
from tui.panes import series
from tui.panes.peer import PEER
from tui.panes.peers import PEERS
from tui.scene import Scene
from tui.views.view import View

MEASURES = (
    series.CPU,
    series.RSS,
    series.SENT,
    series.GPU,
    series.ROUND_TRIP,
    series.MEMORY,
    series.LAG,
)
CHARTS = series.panes(MEASURES)


def place(scene: Scene, area: Area) -> list[Placed]:
    """The table above; below it the selected peer beside its histories."""
    peers = 2 + max(1, len(scene.status.peers) if scene.status else 0)
    table = share(4, peers, max(area.height // 2, area.height - 30))
    detail = share(36, area.width // 3, 56)
    # Without a GPU anywhere its chart says nothing.
    shown: list[Pane] = [one for one in CHARTS if _has_gpu(scene) or one.id != "series-gpu busy"]

    def lower(part: Area) -> list[Placed]:
        return across(part, (PEER, detail), (lambda rest: grid(rest, shown, 34, 7), 0))

    return down(area, (PEERS, table), (lower, 0))


def _has_gpu(scene: Scene) -> bool:
    return any(name.startswith("gpu.") for name in scene.told.series)


VIEW = View(
    name="peers",
    title="Peers",
    short="Peers",
    summary="every peer, and the selected one with roles, devices and charts",
    place=place,
    needs=frozenset({"devices", "latest", "series", "health"}),
    series=series.names(MEASURES),
)
