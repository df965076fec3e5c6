"""Training: the shown job's curves, its trainers, its generations with their stalls, and what more
trainers brought.
"""

from tui.layout import Area, Placed, across, down, share
from tui.pane import Pane
from tui.panes.curves import CHOSEN
from tui.panes.generations import GENERATIONS
from tui.panes.job import JOB
from tui.panes.scaling import SCALING
from tui.panes.trainers import TRAINERS
from tui.scene import Scene
from tui.views.view import View

WITH_SCALING_MIN = 100


def place(scene: Scene, area: Area) -> list[Placed]:
    job, detail = scene.job, scene.detail
    trainers = share(3, 2 + len(job.members if job else ()), area.height // 4)
    rows = len(detail.generations if detail else ())
    if area.width >= WITH_SCALING_MIN:
        rows = max(rows, len(SCALING.all_items(scene)))
    generations = share(3, 2 + rows, max(5, area.height // 4))
    words = share(36, area.width // 4, 48)
    shown: list[Pane] = list(CHOSEN[: 1 if area.width < 110 else 2 if area.width < 165 else 3])

    def upper(part: Area) -> list[Placed]:
        return across(part, (JOB, words), *((chart, 0) for chart in shown))

    def lower(part: Area) -> list[Placed]:
        if part.width < WITH_SCALING_MIN:
            return down(part, (GENERATIONS, 0))
        return across(part, (GENERATIONS, 0), (SCALING, part.width * 2 // 5))

    return down(area, (upper, 0), (TRAINERS, trainers), (lower, generations))


VIEW = View(
    name="training",
    title="Training",
    short="Train",
    summary="curves, trainers, generations with their stalls, what more trainers brought",
    place=place,
    needs=frozenset({"job", "latest", "shards", "insights"}),
)
