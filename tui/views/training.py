"""Training: the shown job's curves, its trainers, and its generations with their stalls."""

from tui.layout import Area, Placed, across, down, share
from tui.pane import Pane
from tui.panes.curves import CHOSEN
from tui.panes.generations import GENERATIONS
from tui.panes.job import JOB
from tui.panes.trainers import TRAINERS
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    job, detail = scene.job, scene.detail
    trainers = share(3, 2 + len(job.members if job else ()), area.height // 4)
    generations = share(3, 2 + len(detail.generations if detail else ()), max(5, area.height // 4))
    words = share(36, area.width // 4, 48)
    shown: list[Pane] = list(CHOSEN[: 1 if area.width < 110 else 2 if area.width < 165 else 3])

    def upper(part: Area) -> list[Placed]:
        return across(part, (JOB, words), *((chart, 0) for chart in shown))

    return down(area, (upper, 0), (TRAINERS, trainers), (GENERATIONS, generations))


VIEW = View(
    name="training",
    title="Training",
    short="Train",
    summary="curves, trainers, strategy, codec, and generations with their stalls",
    place=place,
    needs=frozenset({"job", "latest", "shards"}),
)
