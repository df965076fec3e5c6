"""Activity: how fast everything goes, as the selected peer measured it."""

from tui.layout import Area, Placed, across, down, grid, share
from tui.pane import Pane
from tui.panes import series
from tui.panes.peers import PEERS
from tui.scene import Scene
from tui.views.view import View

MEASURES = (
    series.SPEED,
    series.STEP,
    series.BARRIER,
    series.PROMPTS,
    series.FIRST_TOKEN,
    series.COMMIT_LATENCY,
    series.REQUESTS,
    series.COMMITS,
    series.TOKENS,
    series.ANSWER,
    series.WIRE,
    series.CHECKPOINT,
    series.SENT,
)
CHARTS = series.panes(MEASURES)


def place(scene: Scene, area: Area) -> list[Placed]:
    """The charts, those of what is measured first, and beside or above them whose they are."""
    charts: list[Pane] = [*sorted(CHARTS, key=lambda pane: not pane.is_measured(scene))]
    peers = 2 + max(1, len(scene.status.peers) if scene.status else 0)
    if area.width >= 150:
        return across(area, (PEERS, 44), (lambda part: grid(part, charts, 36, 7), 0))
    table = share(3, peers, area.height // 4)
    return down(area, (PEERS, table), (lambda part: grid(part, charts, 36, 7), 0))


VIEW = View(
    name="activity",
    title="Activity",
    short="Act",
    summary="speed, step, barrier and commit latency, prompts and answers, wire, checkpoints",
    place=place,
    needs=frozenset({"series", "latest"}),
    series=series.names(MEASURES),
)
