"""Jobs: the queue, and the selected job's trainers and checkpoints."""

from tui.layout import Area, Placed, across, down, share
from tui.panes.checkpoints import CHECKPOINTS
from tui.panes.job import JOB
from tui.panes.jobs import JOBS
from tui.panes.trainers import TRAINERS
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    jobs = share(4, 2 + len(scene.status.jobs if scene.status else ()), area.height * 2 // 5)
    trainers = share(3, 2 + len(scene.job.members if scene.job else ()), area.height // 4)
    words = share(36, area.width // 3, 60)

    def lower(part: Area) -> list[Placed]:
        return across(part, (JOB, words), (CHECKPOINTS, 0))

    return down(area, (JOBS, jobs), (TRAINERS, trainers), (lower, 0))


VIEW = View(
    name="jobs",
    title="Jobs",
    short="Jobs",
    summary="all jobs with progress and time left, trainers, checkpoints",
    place=place,
    needs=frozenset({"job", "latest", "shards"}),
)
